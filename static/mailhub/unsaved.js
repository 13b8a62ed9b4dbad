// Asks before what was typed is lost to a link or another button: a test mail, for one, is made of what was saved.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const form = document.querySelector("#content-main > form");
  if (!form) return;
  let typed = false;
  for (const name of ["input", "change"]) form.addEventListener(name, () => (typed = true));
  form.addEventListener("submit", () => (typed = false));
  window.addEventListener("beforeunload", (event) => {
    if (typed) event.preventDefault();
  });
});
