// Timelines of recordings: segments that play, a playhead, and a zoom. Answers arrive later, so all events are handled
// on the document; those of players do not bubble, and are captured.
(() => {
  "use strict";

  // Distances of the ticks (seconds), and the least distance on the screen (pixels).
  const TICK_SECONDS = [0.1, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600];
  const MIN_TICK = 64;
  // Greatest zoom: pixels for a second, or times the width of the box.
  const MAX_PER_SECOND = 20, MAX_TIMES = 8;
  const GONE = "The recording is no longer in this page.";
  const UNPLAYABLE = "This browser cannot play the recording.";

  const calm = window.matchMedia("(prefers-reduced-motion: reduce)");
  // The segment that each player plays: its turn, start and end (seconds).
  const playing = new WeakMap();

  const boxOf = element => element.closest(".timeline");
  const playerOf = box => box.querySelector("audio");
  const secondsOf = box => Number(box.dataset.seconds);

  function hasSource(audio) {
    return Boolean(audio.getAttribute("src") || audio.srcObject || audio.querySelector("source"));
  }

  function note(box, text) {
    box.querySelector(".timeline-note").textContent = text;
  }

  function mark(box, segment) {
    for (const button of box.querySelectorAll("[data-turn][aria-pressed=true]")) {
      button.setAttribute("aria-pressed", "false");
    }
    if (!segment) {
      playing.delete(playerOf(box));
      return;
    }
    playing.set(playerOf(box), segment);
    for (const button of box.querySelectorAll(`[data-turn="${segment.turn}"]`)) {
      button.setAttribute("aria-pressed", "true");
    }
  }

  function seek(box, second) {
    const audio = playerOf(box);
    if (!hasSource(audio)) {
      note(box, GONE);
      return false;
    }
    note(box, "");
    audio.currentTime = second;
    movePlayhead(box, second);
    reveal(box);
    return true;
  }

  function toggle(box, button) {
    const audio = playerOf(box);
    const segment = {
      turn: button.dataset.turn, start: Number(button.dataset.start), end: Number(button.dataset.end),
    };
    if (playing.get(audio)?.turn === segment.turn && !audio.paused) {
      audio.pause();
      return;
    }
    mark(box, null);
    if (!seek(box, segment.start)) return;
    mark(box, segment);
    audio.play().catch(error => {
      if (error.name === "AbortError") return;  // paused before it began
      mark(box, null);
      note(box, UNPLAYABLE);
    });
  }

  function movePlayhead(box, second) {
    const playhead = box.querySelector(".timeline-playhead");
    if (playhead) playhead.style.left = `${Math.min(100 * second / secondsOf(box), 100)}%`;
  }

  // Return the place of the playhead in the visible part of the box, from 0 to 1 if it is there.
  function placeOf(box) {
    const scroll = box.querySelector(".timeline-scroll"), playhead = box.querySelector(".timeline-playhead");
    if (!scroll) return 0;
    const label = box.querySelector(".timeline-label").offsetWidth;
    const left = scroll.getBoundingClientRect().left + label;
    return (playhead.getBoundingClientRect().left - left) / Math.max(scroll.clientWidth - label, 1);
  }

  function reveal(box) {
    const scroll = box.querySelector(".timeline-scroll"), place = placeOf(box);
    if (scroll && (place < 0 || place > 1)) {
      const label = box.querySelector(".timeline-label").offsetWidth;
      scroll.scrollLeft += (place - 0.1) * (scroll.clientWidth - label);
    }
  }

  // Stop at the end of the segment, and move the playhead; the box turns over like a page, unless it was scrolled away.
  function advance(audio, moves) {
    const box = boxOf(audio);
    if (!box) return;
    const segment = playing.get(audio);
    if (segment && !audio.seeking && audio.currentTime >= segment.end - 0.005) {
      mark(box, null);
      audio.pause();
      audio.currentTime = segment.end;
    }
    if (!moves) return;
    const was = placeOf(box);
    movePlayhead(box, audio.currentTime);
    if (was >= 0 && was <= 1 && !audio.paused) reveal(box);
  }

  function follow(audio) {
    if (audio.paused || !audio.isConnected) return;
    advance(audio, !calm.matches);
    requestAnimationFrame(() => follow(audio));
  }

  const clock = (seconds, digits) => {
    const whole = Math.floor(seconds / 60), rest = (seconds - 60 * whole).toFixed(digits).padStart(digits ? 4 : 2, "0");
    const hours = Math.floor(whole / 60);
    return hours ? `${hours}:${String(whole % 60).padStart(2, "0")}:${rest}` : `${whole}:${rest}`;
  };

  function drawTicks(box) {
    const lane = box.querySelector(".timeline-axis .timeline-lane"), seconds = secondsOf(box);
    const step = TICK_SECONDS.find(each => each * lane.offsetWidth / seconds >= MIN_TICK) ?? TICK_SECONDS.at(-1);
    const ticks = Array.from({ length: Math.max(Math.round(seconds / step), 1) }, (_, number) => {
      const tick = document.createElement("span");
      tick.className = "timeline-tick";
      tick.style.left = `${100 * number * step / seconds}%`;
      tick.textContent = clock(number * step, step < 1 ? 1 : 0);
      return tick;
    });
    lane.replaceChildren(...ticks);
  }

  function zoom(box, factor) {
    const scroll = box.querySelector(".timeline-scroll"), inner = box.querySelector(".timeline-inner");
    const visible = scroll.clientWidth, before = inner.offsetWidth;
    const greatest = Math.max(MAX_PER_SECOND * secondsOf(box), MAX_TIMES * visible);
    const width = Math.min(Math.max(before * factor, visible), greatest);
    const middle = (scroll.scrollLeft + visible / 2) / before;
    inner.style.width = `max(100%, ${width}px)`;
    scroll.scrollLeft = middle * width - visible / 2;
    drawTicks(box);
    for (const button of box.querySelectorAll("[data-zoom]")) {
      button.setAttribute("aria-disabled", String(Number(button.dataset.zoom) < 1 ? width <= visible : width >= greatest));
    }
  }

  document.addEventListener("click", event => {
    const box = event.target.closest?.(".timeline");
    if (!box) return;
    const button = event.target.closest("[data-start], [data-zoom]"), lane = event.target.closest(".timeline-lane");
    if (button?.dataset.zoom) {
      zoom(box, Number(button.dataset.zoom));
    } else if (button) {
      toggle(box, button);
    } else if (lane) {
      const { left, width } = lane.getBoundingClientRect();
      seek(box, secondsOf(box) * Math.min(Math.max((event.clientX - left) / width, 0), 1));
    }
  });

  // Arrow keys move in a row, so that the tab key needs one step for a row and not one for each segment.
  document.addEventListener("keydown", event => {
    const button = event.target.closest?.(".timeline-segment");
    if (!button || event.ctrlKey || event.altKey || event.metaKey) return;
    const row = [...button.parentElement.children], place = row.indexOf(button);
    const next = { ArrowLeft: place - 1, ArrowRight: place + 1, Home: 0, End: row.length - 1 }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    if (!row[next]) return;
    button.tabIndex = -1;
    row[next].tabIndex = 0;
    row[next].focus();
  });

  const onPlayer = (kind, handle) => document.addEventListener(kind, event => {
    const box = event.target.closest?.(".timeline");
    if (box && event.target === playerOf(box)) handle(event.target, box);
  }, true);

  onPlayer("timeupdate", audio => advance(audio, true));
  onPlayer("pause", (audio, box) => {
    if (audio.paused) mark(box, null);
  });
  onPlayer("play", (audio, box) => {
    note(box, "");
    for (const other of document.querySelectorAll(".timeline audio")) {
      if (other !== audio) other.pause();
    }
    follow(audio);
  });
  // Another source, or none: nothing of the one before is played on. A new answer may keep the elements of the one
  // before it, and change their attributes alone.
  onPlayer("emptied", (audio, box) => {
    mark(box, null);
    movePlayhead(box, 0);
  });
  new MutationObserver(records => {
    for (const audio of new Set(records.map(record => record.target))) {
      const box = boxOf(audio);
      if (!box || audio !== playerOf(box)) continue;
      audio.pause();
      mark(box, null);
      if (!hasSource(audio)) audio.load();
    }
  }).observe(document, { subtree: true, attributes: true, attributeFilter: ["src", "data-upload"] });
  // Whoever moves the player elsewhere does not want it to stop at the end of the segment.
  onPlayer("seeking", (audio, box) => {
    const segment = playing.get(audio);
    if (segment && (audio.currentTime < segment.start - 0.1 || audio.currentTime > segment.end)) mark(box, null);
  });
})();
