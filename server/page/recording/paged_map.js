// A map by small integers that shares its pages with its copies.

const PAGE_SIZE = 64;

/**
 * A map from integers to values, in the order of its keys. A copy costs nothing: each of both copies a page before it
 * changes it. It reads like a `Map`.
 */
export class PagedMap {
  constructor(pages = [], size = 0) {
    this.pages = pages;
    this.size = size;
    this.ownsPages = false;
    this.owner = {};
  }

  /** A copy. From now on neither of both changes a page of the other. */
  fork() {
    this.ownsPages = false;
    this.owner = {};
    return new PagedMap(this.pages, this.size);
  }

  get(key) {
    return this.pages[Math.floor(key / PAGE_SIZE)]?.values[key % PAGE_SIZE];
  }

  has(key) {
    return this.get(key) !== undefined;
  }

  set(key, value) {
    const page = this.ownPage(Math.floor(key / PAGE_SIZE));
    if (page.values[key % PAGE_SIZE] === undefined) {
      page.count += 1;
      this.size += 1;
    }
    page.values[key % PAGE_SIZE] = value;
    return this;
  }

  delete(key) {
    if (!this.has(key)) return false;
    const number = Math.floor(key / PAGE_SIZE);
    const page = this.ownPage(number);
    page.values[key % PAGE_SIZE] = undefined;
    page.count -= 1;
    this.size -= 1;
    if (page.count === 0) this.pages[number] = undefined;
    return true;
  }

  /** The page with this number, which no copy shares. */
  ownPage(number) {
    if (!this.ownsPages) {
      this.pages = this.pages.slice();
      this.ownsPages = true;
    }
    while (this.pages.length <= number) this.pages.push(undefined);
    const page = this.pages[number];
    if (page?.owner === this.owner) return page;
    const values = page ? page.values.slice() : new Array(PAGE_SIZE).fill(undefined);
    this.pages[number] = { owner: this.owner, count: page?.count ?? 0, values };
    return this.pages[number];
  }

  * entries() {
    for (let number = 0; number < this.pages.length; number += 1) {
      const values = this.pages[number]?.values ?? [];
      for (let at = 0; at < values.length; at += 1) {
        if (values[at] !== undefined) yield [number * PAGE_SIZE + at, values[at]];
      }
    }
  }

  [Symbol.iterator]() {
    return this.entries();
  }

  * keys() {
    for (const [key] of this.entries()) yield key;
  }

  * values() {
    for (const [, value] of this.entries()) yield value;
  }

  /** Faster than the iterators. */
  forEach(call) {
    for (let number = 0; number < this.pages.length; number += 1) {
      const page = this.pages[number];
      if (page === undefined) continue;
      for (let at = 0; at < PAGE_SIZE; at += 1) {
        if (page.values[at] !== undefined) call(page.values[at], number * PAGE_SIZE + at);
      }
    }
  }

  /** The largest key; -1 if the map is empty. */
  lastKey() {
    for (let number = this.pages.length - 1; number >= 0; number -= 1) {
      const at = this.pages[number]?.values.findLastIndex((value) => value !== undefined) ?? -1;
      if (at >= 0) return number * PAGE_SIZE + at;
    }
    return -1;
  }
}
