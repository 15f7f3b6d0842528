// Runs once for each HTML block: a click on a button inside becomes one event with what it asks.
element.addEventListener('click', (event) => {
  const asked = event.target.closest('[data-do]');
  if (!asked || asked.dataset.do === 'play') return;
  if (asked.dataset.sure && !window.confirm(asked.dataset.sure)) return;
  trigger('select', { do: asked.dataset.do, id: asked.dataset.id ?? '' });
});
