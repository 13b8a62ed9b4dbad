// Keeps the numbers of a campaign that is being sent up to date.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const panel = document.querySelector("[data-progress]");
  if (!panel || panel.dataset.running !== "true") return;

  const every = 2000;
  const samples = []; // of the last half minute, for a rate that does not jump
  const status = panel.dataset.status;

  async function look() {
    const first = samples[0];
    const query = first ? `?through=${first.through}&at=${first.at}` : "";
    try {
      const response = await fetch(panel.dataset.progress + query, { headers: { Accept: "application/json" } });
      if (!response.ok || response.redirected) return; // logged out: the page tells when it is reloaded
      const now = await response.json();
      if (!now.running || now.status !== status) {
        location.reload(); // other actions are valid now
        return;
      }
      panel.innerHTML = now.html;
      samples.push({ through: now.through, at: now.at });
      if (samples.length > 15) samples.shift();
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // the network is away: try again
    }
    setTimeout(look, document.hidden ? 5 * every : every);
  }

  setTimeout(look, every);
});
