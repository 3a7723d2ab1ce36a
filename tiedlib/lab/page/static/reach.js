/* What scrolls sideways inside itself (wide formulas and tables on a phone) can be reached by keyboard; what fits is no stop.
   An observer hears of a box when it is laid out, so that what lies far below is not laid out for this. The theme has a loop of its
   own for the same end, which lays out the whole page on arrival and after every change of a figure: it waits for the "load"
   event, and this script, which stands between Bootstrap's and the theme's, ends that event before it gets there. */
(() => {
  "use strict";
  addEventListener("load", (event) => { event.stopImmediatePropagation(); arrive(); });
  /* Who comes to a place far down: on the way parts are laid out and grow, so that the place moves. Aim until it stands still. */
  const arrive = () => {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    let rounds = 12;
    const leave = () => { rounds = 0; };
    for (const sign of ["wheel", "touchstart", "pointerdown", "keydown"]) addEventListener(sign, leave, { once: true, passive: true });
    const aim = () => {
      if (rounds-- <= 0) return;
      const before = target.getBoundingClientRect().top;
      target.scrollIntoView({ behavior: "instant" });
      if (Math.abs(target.getBoundingClientRect().top - before) > 1 || rounds > 9) setTimeout(aim, 60);
    };
    aim();
  };
  const judge = (box) => {
    if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  };
  const watch = new ResizeObserver((entries) => entries.forEach(({ target }) => judge(target)));
  document.querySelectorAll("div.math, mjx-container[display], .pst-scrollable-table-container, .tl-scroll, .cell_output > .output, pre")
    .forEach((box) => watch.observe(box));
})();
