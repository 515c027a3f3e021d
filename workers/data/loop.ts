/** The life of a data worker's thread: take a turn, handle what came, until the engine stops. */
import type { SharedMemory } from '../../engine/shared-memory.ts';
import { Commands } from '../commands.ts';
import { Meter } from '../meter.ts';
import { die, turnsToLive } from '../mortality.ts';
import { DataWorker } from './data-worker.ts';

/** Serves the ring of data worker `worker` (1 …) until the engine stops. Blocks its thread: it has no event loop. */
export function runDataWorker(memory: SharedMemory, engine: number, worker: number): void {
  const commands = new Commands(engine, worker);
  const data = new DataWorker(memory, commands);
  const meter = Meter.ofEnvironment(`data ${worker}`);
  const life = turnsToLive('data');
  let ticket = 0;
  let consumed = 0;
  for (let turns = 1; ; turns++) {
    if (turns > life) die();
    const ready = commands.turn(consumed, data.patienceMicros);
    if (ready < 0) break;
    meter?.begin(ready);
    for (let i = 0; i < ready; i++) data.handle(memory.descriptorWord(worker, ticket + i));
    ticket = (ticket + ready) >>> 0;
    consumed = ready;
    data.relieve();
    meter?.end();
  }
  meter?.report();
}
