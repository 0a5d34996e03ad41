"use strict";
// Looks again when something happened: the parts of the page that are marked as live are taken from a fresh copy of it.
(function () {
  const news = document.getElementById("news");
  const parts = () => document.querySelectorAll("[data-live]");
  if (!news || parts().length === 0 || !window.EventSource) return;
  // A page that came of revealing an event cannot be asked for again; the entry that it shows can.
  const address = location.pathname.replace(/\/reveal$/, "") + location.search;
  let source = null;
  let waiting = false;

  // Whoever is reading with the keyboard in a part is not disturbed.
  const isBusy = () => Array.from(parts()).some((part) => part.contains(document.activeElement)) ||
    String(window.getSelection()) !== "";

  // A search that found nothing among those that it had time to look at goes on by itself; whoever leaves the page ends it.
  const goesOn = document.querySelector("[data-goes-on]");
  if (goesOn) {
    news.textContent = "Still looking: older ones are next.";
    location.replace(goesOn.href);
    return;
  }

  async function look() {
    if (waiting || document.hidden) return;
    if (isBusy()) {
      news.textContent = "Something happened since this page was loaded.";
      return;
    }
    waiting = true;
    try {
      const answer = await fetch(address, { headers: { accept: "text/html" } });
      if (answer.redirected) { location.reload(); return; }
      if (!answer.ok) return;
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const part of parts()) {
        const next = fresh.querySelector('[data-live="' + part.dataset.live + '"]');
        if (!next || next.innerHTML === part.innerHTML) continue;
        const open = Array.from(part.querySelectorAll("details")).map((details) => details.open);
        part.replaceChildren(...next.childNodes);
        part.querySelectorAll("details").forEach((details, index) => { details.open = Boolean(open[index]); });
      }
      news.textContent = "";
    } catch (error) {
      news.textContent = "The service does not answer; this page is as it was.";
    } finally {
      waiting = false;
    }
  }

  function follow() {
    if (source || document.hidden) return;
    source = new EventSource("/live");
    source.addEventListener("happened", look);
    // What happened between the making of this page and the beginning of the stream is told by no hint.
    source.addEventListener("open", look);
  }

  function rest() {
    if (source) source.close();
    source = null;
  }

  // A tab that nobody sees holds no socket.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { rest(); } else { follow(); look(); }
  });
  window.addEventListener("pagehide", rest);
  // The browser may keep a page as it was and show it again.
  window.addEventListener("pageshow", (event) => { if (event.persisted) { follow(); look(); } });
  follow();
})();
