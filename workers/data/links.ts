/** Doubly linked lists whose links live as long as what they link: adding and removing allocate nothing. */

/** An owner's place in at most one list; made once, with its owner. */
export class Link<T> {
  readonly owner: T;
  /** The list that it is in. */
  list: LinkedList<T> | undefined;
  next: Link<T> | undefined;
  previous: Link<T> | undefined;

  constructor(owner: T) {
    this.owner = owner;
  }
}

/** Owners in the order in which they were added. Threads: its worker's own. */
export class LinkedList<T> {
  first: Link<T> | undefined;
  #last: Link<T> | undefined;
  size = 0;

  /** Adds a link at the end, unless it is in the list already. It must not be in another one. */
  add(link: Link<T>): void {
    if (link.list === this) return;
    link.list = this;
    link.previous = this.#last;
    link.next = undefined;
    if (this.#last === undefined) this.first = link;
    else this.#last.next = link;
    this.#last = link;
    this.size += 1;
  }

  /** Removes a link if it is in the list. */
  remove(link: Link<T>): void {
    if (link.list !== this) return;
    const { previous, next } = link;
    if (previous === undefined) this.first = next;
    else previous.next = next;
    if (next === undefined) this.#last = previous;
    else next.previous = previous;
    link.list = undefined;
    link.next = undefined;
    link.previous = undefined;
    this.size -= 1;
  }

  /** The owners as they are now: for those who change the list while they go through it. */
  toArray(): T[] {
    const owners: T[] = [];
    for (let link = this.first; link !== undefined; link = link.next) owners.push(link.owner);
    return owners;
  }
}
