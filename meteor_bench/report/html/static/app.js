"use strict";
// The page's data come compressed; the rest is what happens to the page: theme, sections, sorting.

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

/** An element with attributes and children; text becomes text, never markup. */
function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "on") for (const [event, handler] of Object.entries(value)) node.addEventListener(event, handler);
    else if (key.startsWith("--")) node.style.setProperty(key, value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value != null) node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

async function inflate(id) {
  const packed = Uint8Array.from(atob($("#" + id).textContent.trim()), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

// ---------------------------------------------------------------- theme

const dark = matchMedia("(prefers-color-scheme: dark)");
const repaint = new Set(); // called after the colours changed

function remembered() {
  try {
    return localStorage.getItem("meteor-bench-theme") || "auto";
  } catch {
    return "auto"; // storage is closed to files in some browsers
  }
}

function setTheme(choice) {
  const shown = choice === "auto" ? (dark.matches ? "dark" : "light") : choice;
  document.documentElement.dataset.theme = shown;
  document.documentElement.dataset.choice = choice;
  for (const button of $$("[data-theme-choice]"))
    button.setAttribute("aria-pressed", button.dataset.themeChoice === choice);
  try {
    localStorage.setItem("meteor-bench-theme", choice);
  } catch {
    // as above: the choice holds until the page is closed
  }
  for (const paint of repaint) paint();
}

// ---------------------------------------------------------------- tables

function sortBy(header) {
  const table = header.closest("table");
  const at = [...header.parentNode.children].indexOf(header);
  const text = header.dataset.kind === "text";
  const next = header.getAttribute("aria-sort") === (text ? "ascending" : "descending") ? -1 : 1;
  const sign = text ? next : -next;
  for (const other of header.parentNode.children) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
  const key = (row) => row.children[at].dataset.v ?? row.children[at].textContent;
  const rows = [...table.tBodies[0].rows];
  rows.sort((a, b) => {
    const [x, y] = [key(a), key(b)];
    if (text) return sign * x.localeCompare(y, undefined, { numeric: true });
    if (x === "" || y === "") return (x === "") - (y === ""); // what was not measured stands last
    return sign * (Number(x) - Number(y));
  });
  table.tBodies[0].append(...rows);
}

/** "score" or "difference", which the cells hold beside it. */
function showNumbers(table, what) {
  table.dataset.show = what;
  for (const cell of $$("td[data-difference]", table)) {
    const { difference, half } = cell.dataset;
    const score = (cell.dataset.score ??= cell.textContent);
    const pm = half && el("span", { class: "pm" }, ` ±${half}`);
    cell.replaceChildren(...(what === "difference" ? [difference, pm ?? ""] : [score]));
  }
}

function wireTables() {
  for (const header of $$("thead th[data-kind]")) $("button", header).addEventListener("click", () => sortBy(header));
  for (const group of $$("[data-table]")) {
    for (const button of $$("button", group)) {
      button.addEventListener("click", () => {
        press(group, button);
        showNumbers(document.getElementById(group.dataset.table), button.value);
      });
    }
  }
}

/** Mark one button of a group as the chosen one. */
function press(group, chosen) {
  for (const button of $$("button", group)) button.setAttribute("aria-pressed", button === chosen);
}

// ---------------------------------------------------------------- sections

function showSection(index) {
  for (const section of $$("[data-section]")) section.hidden = Number(section.dataset.section) !== index;
  for (const button of $$("[data-open-section]"))
    button.setAttribute("aria-pressed", Number(button.dataset.openSection) === index);
  for (const link of $$(".bar nav a")) link.href = `#${link.dataset.part}-${index}`;
  for (const paint of repaint) paint();
}

/** The part that the address names, where it names one. */
function named() {
  return location.hash ? document.getElementById(location.hash.slice(1)) : null;
}

/** A part of a hidden section is shown and stands at the top; where it is visible the browser scrolls to it. */
function openNamed() {
  const section = named()?.closest("[data-section]");
  if (!section?.hidden) return;
  showSection(Number(section.dataset.section));
  named().scrollIntoView({ behavior: "instant" });
}

async function start() {
  for (const button of $$("[data-theme-choice]"))
    button.addEventListener("click", () => setTheme(button.dataset.themeChoice));
  dark.addEventListener("change", () => setTheme(document.documentElement.dataset.choice));
  setTheme(remembered());
  wireTables();
  for (const button of $$("[data-open-section]"))
    button.addEventListener("click", () => showSection(Number(button.dataset.openSection)));
  if (!("DecompressionStream" in window)) {
    $("#trouble").textContent =
      "This browser is too old for the charts and questions of this page; its tables are all here.";
    $("#trouble").hidden = false;
    return;
  }
  const data = JSON.parse(await inflate("data"));
  data.sections.forEach((section, index) => browse(section, $(`[data-section="${index}"]`)));
  const library = document.createElement("script");
  library.textContent = await inflate("charts"); // let through by its hash in the policy
  document.head.append(library);
  data.sections.forEach((section, index) => plot(section, $(`[data-section="${index}"]`)));
  let moved = false; // by the reader, whom nothing is to pull back
  for (const event of ["wheel", "touchmove", "keydown", "mousedown"])
    addEventListener(event, () => (moved = true), { once: true, passive: true });
  openNamed();
  addEventListener("hashchange", openNamed);
  document.documentElement.dataset.ready = "yes";
  await Promise.all($$("[data-plot]").map((node) => drawing.get(node)));
  if (!moved) named()?.scrollIntoView({ behavior: "instant" }); // charts have pushed it down
}
