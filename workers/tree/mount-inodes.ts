import type { CopiedRange } from '../../engine/tree/copy.ts';
import type { Attributes, AttributesPatch, Time } from '../../engine/tree/types.ts';
import type { Answer } from './answer.ts';
import type { Clock } from './clock.ts';
import type { Copying } from './copying.ts';
import type { Durability } from './durability.ts';
import type { Forgetting } from './forgetting.ts';
import type { Access, Allocation, OpenInodes } from './open-inodes.ts';
import type { Orphans } from './orphans.ts';
import type { Outcome, Request } from './request.ts';
import type { Resizing } from './resizing.ts';
import type { Slots } from './slots.ts';

/** The parts of the tree worker that operations may use. */
interface Parts {
  slots: Slots;
  orphans: Orphans;
  clock: Clock;
  resizing: Resizing;
  copying: Copying;
  forgetting: Forgetting;
  durability: Durability;
}

/** The open inodes of a mount, as {@link OpenInodes} promises them: it decides nothing, each part does what it is for. */
export class MountInodes implements OpenInodes {
  readonly #slots: Slots;
  readonly #orphans: Orphans;
  readonly #clock: Clock;
  readonly #resizing: Resizing;
  readonly #copying: Copying;
  readonly #forgetting: Forgetting;
  readonly #durability: Durability;

  constructor(parts: Parts) {
    this.#slots = parts.slots;
    this.#orphans = parts.orphans;
    this.#clock = parts.clock;
    this.#resizing = parts.resizing;
    this.#copying = parts.copying;
    this.#forgetting = parts.forgetting;
    this.#durability = parts.durability;
  }

  open(attributes: Attributes, access: Access): number {
    const open = this.#slots.open(attributes, access.write);
    if (typeof open === 'number') return open;
    if (access.write) this.#clock.arm();
    return open.slot;
  }

  release(slot: number, access: Access): void {
    const open = this.#slots.bySlot(slot);
    if (open === undefined) return;
    if (this.#slots.close(open, access.write)) this.#forgetting.closed(open);
  }

  slotOf(ino: number): number {
    return this.#slots.byIno(ino)?.slot ?? -1;
  }

  sizeOf(slot: number): number {
    return this.#slots.sizeOf(slot);
  }

  unsettledOf(slot: number): number {
    return this.#slots.unsettledOf(slot);
  }

  mtimeOf(slot: number): Time {
    return this.#slots.mtimeOf(slot);
  }

  setMtime(slot: number, time: Time): void {
    this.#slots.setMtime(slot, time);
  }

  setPrivileges(slot: number, privileges: number): void {
    this.#slots.setPrivileges(slot, privileges);
  }

  resize(request: Request, ino: number, patch: AttributesPatch, answer: Answer): Outcome {
    return this.#resizing.resize(request, ino, patch, answer);
  }

  allocate(request: Request, ino: number, range: Allocation): Outcome {
    return this.#resizing.allocate(request, ino, range);
  }

  copy(request: Request, range: CopiedRange): Outcome {
    return this.#copying.copy(request, range);
  }

  unlinked(ino: number): void {
    this.#orphans.add(ino);
  }

  unnamed(ino: number): void {
    this.#orphans.addLinkable(ino);
  }

  isLinkable(ino: number): boolean {
    return this.#orphans.isLinkable(ino);
  }

  linked(ino: number): void {
    this.#orphans.remove(ino);
  }

  forgotten(ino: number): void {
    this.#forgetting.forgotten(ino);
  }

  syncTree(request: Request): Outcome {
    return this.#durability.syncTree(request);
  }
}
