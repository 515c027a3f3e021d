/** The card that every result carries: figures of different machines are no comparison. */
import { availableParallelism, cpus, freemem, release, totalmem } from 'node:os';

/** What a result was measured on. */
export interface MachineCard {
  cpu: string;
  cores: number;
  kernel: string;
  node: string;
  memoryBytes: number;
  freeMemoryBytes: number;
}

/** The card of this machine, now. */
export function machineCard(): MachineCard {
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    kernel: release(),
    node: process.version,
    memoryBytes: totalmem(),
    freeMemoryBytes: freemem(),
  };
}

/** The card in one line. */
export function machineText(card: MachineCard): string {
  const gib = (card.memoryBytes / 2 ** 30).toFixed(0);
  return `${card.cpu}, ${card.cores} cores, ${gib} GiB, Linux ${card.kernel}, Node ${card.node}`;
}
