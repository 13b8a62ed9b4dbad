// The side bar is longer than most screens: shows where one is in it.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const bar = document.getElementById("nav-sidebar");
  const here = bar?.querySelector("[aria-current]");
  if (!here) return;

  function show() {
    const below = here.offsetTop + here.offsetHeight - bar.clientHeight;
    // Somewhat past it, so that it is seen that there is more.
    if (bar.clientHeight && below > 0) bar.scrollTop = below + bar.clientHeight / 3;
  }

  show();
  // Where it is a drawer, it has no height before it is opened.
  bar.addEventListener("toggle", show);
});
