// What the page does beyond showing itself: quick hints at points, sorting and filtering of the runs, remembering the theme.
"use strict";
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const byId = (id) => document.getElementById(id);

  // Theme: the radio buttons work by style alone; here the choice is kept. A page of its own file may have no storage.
  try {
    const kept = byId("theme-" + localStorage.getItem("gapbench-theme"));
    if (kept) kept.checked = true;
    all(".theme input").forEach((input) => input.addEventListener("change", () => localStorage.setItem("gapbench-theme", input.value)));
  } catch { /* then it is not kept */ }

  // Hints: each point holds its text as a title, which browsers show late and never to a keyboard.
  const tip = byId("tip"), said = byId("said");
  const texts = new WeakMap();
  all(".points circle, .strip circle").forEach((point) => {
    const title = point.querySelector("title");
    if (!title) return;
    texts.set(point, title.textContent);
    title.remove();
  });
  const show = (point) => {
    tip.textContent = texts.get(point);
    tip.hidden = false;
    const box = point.getBoundingClientRect(), width = document.documentElement.clientWidth;
    const left = Math.min(Math.max(box.left + box.width / 2 - tip.offsetWidth / 2, 4), width - tip.offsetWidth - 4);
    const above = box.top - tip.offsetHeight - 6;
    tip.style.left = left + scrollX + "px";
    tip.style.top = (above > 0 ? above : box.bottom + 6) + scrollY + "px";
  };
  const hide = () => { tip.hidden = true; };
  document.addEventListener("pointerover", (event) => { if (texts.has(event.target)) show(event.target); else hide(); });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  all(".frame").forEach((frame) => {
    let at = -1;
    frame.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      const points = all(".points circle", frame).filter((point) => getComputedStyle(point).display !== "none");
      if (!step || !points.length) return;
      event.preventDefault();
      all(".here", frame).forEach((point) => point.classList.remove("here"));
      at = (at + step + points.length) % points.length;
      points[at].classList.add("here");
      points[at].scrollIntoView({ block: "nearest", inline: "nearest" });
      show(points[at]);
      said.textContent = texts.get(points[at]);
    });
    frame.addEventListener("blur", () => { hide(); all(".here", frame).forEach((point) => point.classList.remove("here")); });
  });

  // Runs: a click on a heading sorts, another turns the order round; numbers by their value, words by the alphabet.
  const table = byId("run-table"), body = table.tBodies[0], rows = [...body.rows];
  const key = (row, column) => { const field = row.cells[column], value = field.dataset.value; return value === undefined ? field.textContent : Number(value.replace("inf", "Infinity")); };
  all("thead th", table).forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = heading.textContent;
    heading.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = heading.getAttribute("aria-sort") === "ascending";
      all("thead th", table).forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const compared = (one, other) => {
        const [a, b] = [key(one, column), key(other, column)];
        return typeof a === "number" ? a - b || 0 : a.localeCompare(b, "en", { numeric: true });
      };
      body.append(...[...rows].sort((one, other) => (down ? -1 : 1) * compared(one, other)));
    });
  });
  const form = document.querySelector(".filter"), text = byId("filter-text"), outcome = byId("filter-outcome"), count = byId("filter-count");
  const outcomeColumn = all("thead th", table).findIndex((heading) => heading.textContent === "outcome");
  const filter = () => {
    const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row) => {
      const content = [...row.cells].map((field) => field.textContent.toLowerCase()).join(" ");
      const fits = words.every((word) => content.includes(word)) && (!outcome.value || row.cells[outcomeColumn].textContent === outcome.value);
      row.hidden = !fits;
      shown += fits ? 1 : 0;
    });
    count.textContent = `${shown} of ${rows.length} runs`;
  };
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", filter);
  filter();
})();
