// Keeps live pages fresh: asks for the page that is shown once more, waits until it has changed, and
// puts its live parts in place of the old ones. Without this script everything works; one reloads by hand.
(() => {
  "use strict";

  // A form that is sent twice by an impatient finger is sent once.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.dataset.sent) {
      event.preventDefault();
      return;
    }
    if (form.method === "post") form.dataset.sent = "yes";
  });
  // Who comes back by the browser's button may send again.
  window.addEventListener("pageshow", () => {
    for (const form of document.forms) delete form.dataset.sent;
  });

  if (document.body.dataset.live !== "yes") return;

  const WAIT_S = 20;
  const RETRY_MS = 3000;
  const PAUSE_MS = 300;
  const link = document.getElementById("link");
  let tag = '"none"';
  let running = false;

  const say = (kind, text) => {
    link.hidden = false;
    link.className = "link " + kind;
    if (link.textContent !== text) link.textContent = text;
  };

  const rest = (ms) => new Promise((done) => setTimeout(done, ms));

  // The element in the new part that is the same as the focused one in the old.
  const counterpart = (part, old) => {
    if (old.id) return document.getElementById(old.id);
    const href = old.getAttribute("href");
    if (!href) return null;
    return Array.from(part.querySelectorAll("a")).find((a) => a.getAttribute("href") === href);
  };

  const show = (text) => {
    const next = new DOMParser().parseFromString(text, "text/html");
    for (const part of document.querySelectorAll("[data-part]")) {
      const fresh = next.querySelector('[data-part="' + part.dataset.part + '"]');
      if (!fresh || fresh.innerHTML === part.innerHTML) continue;
      const focused = part.contains(document.activeElement) ? document.activeElement : null;
      part.replaceChildren(...fresh.childNodes);
      if (focused) {
        const same = counterpart(part, focused);
        if (same) same.focus({ preventScroll: true });
      }
    }
  };

  const ask = async () => {
    const answer = await fetch(location.href, {
      headers: { "If-None-Match": tag, Prefer: "wait=" + WAIT_S },
      cache: "no-store",
      credentials: "same-origin",
    });
    if (answer.status === 304) return PAUSE_MS;
    if (answer.redirected) {
      location.reload();
      return RETRY_MS;
    }
    if (!answer.ok) {
      say("lost", "This page can't be kept up to date (" + answer.status + "). Load it again.");
      return RETRY_MS;
    }
    tag = answer.headers.get("ETag") || tag;
    show(await answer.text());
    return PAUSE_MS;
  };

  const follow = async () => {
    if (running) return;
    running = true;
    while (!document.hidden) {
      let pause;
      try {
        pause = await ask();
        if (pause === PAUSE_MS) say("live", "Live");
      } catch {
        say("lost", "The node does not answer; trying again");
        pause = RETRY_MS;
      }
      await rest(pause);
    }
    running = false;
  };

  document.addEventListener("visibilitychange", follow);
  follow();
})();
