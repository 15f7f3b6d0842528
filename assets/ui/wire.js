// Runs once for each HTML block: a click on a button inside becomes one event with what it asks.
// The block may be drawn anew at any time, so a click counts only if what is there on release asks
// for the same as what was pressed, and the focus goes on to what stands in the old one's place.
const find = (target) => target?.closest?.('[data-do]');
const note = (event) => ({ ...find(event.target)?.dataset });
let pressed = {};
let focused = {};
element.addEventListener('pointerdown', (event) => { pressed = note(event); });
element.addEventListener('focusin', (event) => { focused = note(event); });
element.addEventListener('focusout', (event) => {
  // A button that is taken away loses the focus too; that is no choice of a person.
  if (event.target.isConnected) focused = {};
});
new MutationObserver(() => {
  if (!focused.do || document.activeElement !== document.body) return;
  const near = [...element.querySelectorAll('[data-do]')].filter((one) => one.dataset.id === focused.id);
  (near.find((one) => one.dataset.do === focused.do) ?? near[0])?.focus({ preventScroll: true });
}).observe(element, { childList: true, subtree: true });
element.addEventListener('click', (event) => {
  const asked = find(event.target) ?? find(document.elementFromPoint(event.clientX, event.clientY));
  if (!asked || asked.dataset.do === 'play') return;
  const { do: does, id = '', sure } = asked.dataset;
  // A key presses no pointer.
  if (event.detail && (does !== pressed.do || id !== (pressed.id ?? ''))) return;
  if (sure && !window.confirm(sure)) return;
  trigger('select', { do: does, id });
});
