// The browser keeps the audio of the page: the server deletes each upload as soon as its call ends.
const voxprobe = {
  // Object URLs of the recordings, by the names of the folders of their uploads.
  kept: new Map(),
  // Number of recordings by microphone, for their names.
  n_recorded: 0,
  // The last headline of each answer; Gradio may change the parts of an answer instead of replacing it.
  announced: new WeakMap(),

  // Close the messages of earlier actions, and return the values of the inputs, for the call that follows.
  begin(values) {
    for (const close of document.querySelectorAll("[data-testid=toast-close]")) close.click();
    return values;
  },

  // Ask before a speaker is removed; return the name, or null.
  confirm(name) {
    voxprobe.begin();
    return name && confirm(`Remove ${name} with all recordings? This cannot be undone.`) ? name : null;
  },

  // Fetch the uploaded files among the values of the inputs, and return the values, for the call that follows.
  async keep(values) {
    voxprobe.begin(values);
    const files = values.flat().filter((value) => value && value.path && value.url);
    await Promise.all(files.map(async (file) => {
      const key = file.path.split(/[\\/]/).at(-2);
      if (voxprobe.kept.has(key)) return;
      const answer = await fetch(file.url);
      const audio = answer.ok ? await answer.blob() : null;
      if (audio?.size) voxprobe.kept.set(key, URL.createObjectURL(audio));
    }));
    return values;
  },

  // Return the values of an input for files and of a microphone, whose recording is moved to the files.
  collect(files, recorded) {
    if (!recorded) return [files, recorded];
    voxprobe.n_recorded += 1;
    const file = { ...recorded, orig_name: `microphone ${voxprobe.n_recorded}.wav` };
    return [Array.isArray(files) ? [...files, file] : files === undefined ? file : [file], null];
  },

  // Give the players in answers their audio. Gradio keeps the player of the last answer for the next one, with the
  // attributes of the new one alone, so that its audio is set again.
  fill() {
    for (const player of document.querySelectorAll("audio[data-upload]")) {
      const url = voxprobe.kept.get(player.dataset.upload);
      if (url && player.getAttribute("src") !== url) {
        player.src = url;
        voxprobe.note(player, "");
      } else if (!url) {
        voxprobe.note(player, "(not in this page)");
      }
    }
  },

  // Show a note in place of a player, or the player if the note is empty.
  note(player, text) {
    const note = player.nextElementSibling;
    if (!note?.matches(".no-player") || note.textContent === text) return;
    note.textContent = text;
    player.hidden = Boolean(text);
  },

  // Name the buttons of the inputs for files by their labels, which Gradio names alike.
  name() {
    for (const button of document.querySelectorAll("button[aria-label^='Click to upload'], button[aria-label='common.upload']")) {
      const label = button.closest(".block")?.querySelector("[data-testid=block-label]");
      if (label) button.setAttribute("aria-label", `${label.innerText.trim()}: upload files`);
    }
  },

  // Give the headline of each new answer to screen readers.
  announce() {
    let place = document.getElementById("announced");
    if (!place && document.body) {
      place = Object.assign(document.createElement("div"), { id: "announced", role: "status" });
      document.body.append(place);
    }
    for (const answer of document.querySelectorAll(".answer")) {
      const headline = answer.querySelector("h2, .error")?.textContent ?? "";
      if (voxprobe.announced.get(answer) === headline) continue;
      voxprobe.announced.set(answer, headline);
      place.textContent = headline;
    }
  },
};
window.voxprobe = voxprobe;
new MutationObserver(() => {
  voxprobe.fill();
  voxprobe.name();
  voxprobe.announce();
}).observe(document.documentElement, {
  childList: true, characterData: true, subtree: true, attributes: true, attributeFilter: ["src", "data-upload"],
});

// A file that is no audio has no player. Errors of players do not bubble, and are captured.
document.addEventListener("error", ({ target }) => {
  if (target.matches?.("audio[data-upload][src]")) voxprobe.note(target, "(this browser cannot play it)");
}, true);
