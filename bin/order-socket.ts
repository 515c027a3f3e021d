/**
 * How a command asks the process that serves a mount for something: a socket beside the serving record, which only the
 * user of the mount can reach. One line of JSON goes each way.
 */
import { once } from 'node:events';
import { chmodSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import type { Logger, Mount } from '../engine/mount.ts';
import type { SweepReport } from '../engine/native.ts';
import { Failure, type FailureParts, failureParts } from './failure.ts';
import type { ProcessIdentity } from './server-process.ts';
import { type ServingRecord, socketFile } from './serving-record.ts';

/** Longest order, in characters. */
const ORDER_MAX = 4096;

/** What can be asked for. */
export interface Order {
  readonly order: 'gc';
  readonly graceSeconds: number;
  readonly dryRun: boolean;
}

type Reply = { done: true; report: SweepReport } | ({ done: false } & FailureParts);

/**
 * Takes orders for the mount of this process until it ends; resolves once it can be asked. Where that is impossible,
 * the log says why, and the mount goes on.
 */
export async function takeOrders(own: ProcessIdentity, served: Mount, log: Logger): Promise<void> {
  const server = createServer((socket) => {
    socket.on('error', () => socket.destroy()); // Who asked has gone.
    readLine(socket).then(
      (line) => answer(served, line).then((reply) => socket.end(`${JSON.stringify(reply)}\n`)),
      () => socket.destroy(),
    );
  });
  try {
    await listen(server, socketFile(own));
  } catch (error) {
    const why =
      'commands cannot ask this mount for anything: millrace gc works once it is unmounted';
    log.warn({ err: error }, why);
    return;
  }
  server.on('error', (error) =>
    log.warn({ err: error }, 'commands cannot ask this mount any more'),
  );
  const stop = (): void => {
    server.close();
  };
  served.done.then(stop, stop);
}

async function listen(server: Server, file: string): Promise<void> {
  // What a process of an earlier boot left.
  rmSync(file, { force: true });
  server.listen(file);
  server.unref();
  await once(server, 'listening');
  chmodSync(file, 0o600);
}

async function answer(served: Mount, line: string): Promise<Reply> {
  try {
    return { done: true, report: await obey(served, JSON.parse(line) as Partial<Order>) };
  } catch (error) {
    return { done: false, ...failureParts(error) };
  }
}

function obey(served: Mount, order: Partial<Order>): Promise<SweepReport> {
  const { graceSeconds, dryRun } = order;
  const isKnown = order.order === 'gc' && typeof dryRun === 'boolean';
  if (!isKnown || typeof graceSeconds !== 'number' || !(graceSeconds >= 0)) {
    const hint = 'unmount and mount again, so that both are of one version';
    throw new Failure({ message: 'the mount does not understand what it is asked for', hint });
  }
  return served.collectGarbage({ graceSeconds, dryRun });
}

/** Asks the process of a serving record for something; resolves when that is done. Throws what it says. */
export async function ask(record: ServingRecord, order: Order): Promise<SweepReport> {
  const { mountPoint, pid } = record;
  let line: string;
  try {
    const socket = connect(socketFile(record));
    socket.on('error', () => {}); // Told by the end of the line.
    socket.write(`${JSON.stringify(order)}\n`);
    line = await readLine(socket);
  } catch (error) {
    const message = `the process ${pid}, which serves ${mountPoint}, does not answer`;
    const hint = `see the log of the mount (${record.log || 'its stderr'}), or unmount and try again`;
    throw new Failure({ message, hint }, error);
  }
  const reply = JSON.parse(line) as Reply;
  if (!reply.done) throw new Failure(reply);
  return reply.report;
}

/** The first line that arrives; rejects when the other side ends before, or sends too much. */
async function readLine(socket: Socket): Promise<string> {
  let text = '';
  for await (const piece of socket.iterator({ destroyOnReturn: false })) {
    text += String(piece);
    const end = text.indexOf('\n');
    if (end >= 0) return text.slice(0, end);
    if (text.length > ORDER_MAX) break;
  }
  throw new Error('the connection ended before the end of a line');
}
