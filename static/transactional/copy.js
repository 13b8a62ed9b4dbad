// What is to be pasted elsewhere is copied by a button. A click on it selects it all as well, which needs no script.
"use strict";

{
  const { copy, copied } = document.currentScript.dataset;

  document.addEventListener("DOMContentLoaded", () => {
    // Browsers have it on pages that came over TLS, and on one's own machine.
    if (!navigator.clipboard) return;
    for (const block of document.querySelectorAll("pre.copy")) {
      const frame = document.createElement("div");
      frame.className = "copying";
      block.replaceWith(frame);
      const button = document.createElement("button");
      button.type = "button";
      button.className = "button small";
      button.textContent = copy;
      button.addEventListener("click", async () => {
        await navigator.clipboard.writeText(block.textContent);
        button.textContent = copied;
        setTimeout(() => { button.textContent = copy; }, 2000);
      });
      frame.append(block, button);
    }
  });
}
