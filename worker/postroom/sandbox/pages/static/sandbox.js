// The pages work without this file; it adds local times, fresh lists and a few keys.
"use strict";

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const long = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });

function localTimes(root) {
  for (const element of root.querySelectorAll("time")) {
    const moment = new Date(element.dateTime);
    const today = moment.toDateString() === new Date().toDateString();
    element.title = long.format(moment);
    element.textContent = "long" in element.dataset ? element.title : (today ? clock : day).format(moment);
  }
}

async function refresh() {
  const live = document.querySelector("[data-refresh]");
  if (!live || document.hidden || live.querySelector("form:focus-within")) return;
  const answer = await fetch(location.href);
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const next = page.querySelector("[data-refresh]");
  localTimes(next);
  if (next.innerHTML === live.innerHTML.replaceAll(' class="mail fresh"', ' class="mail"')) return;
  const focused = document.activeElement?.id;
  const known = new Set([...live.querySelectorAll(".mail")].map((mail) => mail.id));
  live.replaceWith(next);
  for (const mail of next.querySelectorAll(".mail")) if (!known.has(mail.id)) mail.classList.add("fresh");
  if (focused) document.getElementById(focused)?.focus();
}

function step(by) {
  const mails = [...document.querySelectorAll(".mail")];
  if (!mails.length) return document.querySelector(by > 0 ? "[rel=next]" : "[rel=prev]")?.click();
  const place = mails.indexOf(document.activeElement);
  mails[Math.min(Math.max(place + by, 0), mails.length - 1)].focus();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
  const keys = {
    "/": () => document.querySelector("[type=search]").focus(),
    j: () => step(1),
    k: () => step(-1),
    u: () => document.getElementById("back")?.click(),
  };
  if (!keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
});

document.addEventListener("submit", (event) => {
  const question = event.submitter?.dataset.sure;
  if (question && !confirm(question)) event.preventDefault();
});

localTimes(document);
setInterval(() => refresh().catch(() => {}), 2000);
