// Plays the recording: steps at a chosen speed.

/** Calls `step` at a speed until it returns false. */
export class Player {
  constructor({ play, speed }, { step }) {
    Object.assign(this, { play, speed, step, timer: null });
  }

  get isPlaying() {
    return this.timer !== null;
  }

  toggle() {
    if (this.isPlaying) this.stop();
    else this.start();
  }

  start() {
    this.wait();
    this.show();
  }

  stop() {
    if (!this.isPlaying) return;
    clearTimeout(this.timer);
    this.timer = null;
    this.show();
  }

  wait() {
    this.timer = setTimeout(() => {
      if (this.step()) this.wait();
      else this.stop();
    }, 1000 / Number(this.speed.value));
  }

  show() {
    this.play.textContent = this.isPlaying ? 'Pause' : 'Play';
  }
}
