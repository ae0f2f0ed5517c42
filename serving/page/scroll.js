// Keeps the end of a growing answer in sight until the reader scrolls away, and again from the end.
// Only what the reader does counts: a scroll event may be the page's own doing.

export class Follower {
  constructor(node, growing) {
    this.node = node;
    this.following = true;
    this.backToEnd = false;
    addEventListener("wheel", (event) => event.deltaY && this.steer(event.deltaY > 0), { passive: true });
    addEventListener("touchmove", () => {
      this.steer(false);
      this.backToEnd = true; // which way shows when the finger is gone
    }, { passive: true });
    addEventListener("keydown", (event) => {
      if (event.target.closest("textarea, select, input")) return;
      if (["PageUp", "Home", "ArrowUp"].includes(event.key)) this.steer(false);
      if (["PageDown", "End", "ArrowDown", " "].includes(event.key)) this.steer(true);
    });
    addEventListener("scrollend", () => {
      if (this.backToEnd && this.atEnd()) this.following = true;
    });
    new ResizeObserver(() => growing() && this.follow()).observe(node);
  }

  toEnd() {
    this.following = true;
    this.follow();
  }

  follow() {
    if (this.following && this.node.isConnected) scrollTo({ top: document.documentElement.scrollHeight });
  }

  steer(down) {
    if (!down) this.following = false;
    this.backToEnd = down;
  }

  atEnd() {
    return innerHeight + scrollY >= document.documentElement.scrollHeight - 48;
  }
}
