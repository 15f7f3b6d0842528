// The page's own behaviour: language, light and dark, what was written before it was there, keys,
// and clips that play while looked at.
(() => {
  const root = document.documentElement;
  root.lang = window.studio.language;
  root.dir = window.studio.direction;

  const KEY = 'aiprod-theme';
  const wish = () => localStorage.getItem(KEY) ?? 'system';
  const dusk = window.matchMedia('(prefers-color-scheme: dark)');
  const paint = () => {
    const dark = wish() === 'dark' || (wish() === 'system' && dusk.matches);
    document.body.classList.toggle('dark', dark);
    root.style.colorScheme = dark ? 'dark' : 'light';
  };
  paint();
  dusk.addEventListener('change', paint);

  // What was written while the studio opened (porch.html) goes on in the form, once that is back:
  // at the same letter, and between two keys.
  const DRAFT = 'aiprod-draft';
  const takeOver = () => {
    const field = document.querySelector('#as-prompt textarea:enabled');
    const box = document.querySelector('#porch textarea');
    if (!field || box?.dataset.composing !== undefined) return;
    waiting.disconnect();
    const draft = box && box.value === box.defaultValue ? null : box?.value ?? localStorage.getItem(DRAFT);
    localStorage.removeItem(DRAFT);
    if (draft !== null && draft !== field.value) {
      field.value = draft;
      field.dispatchEvent(new Event('input', { bubbles: true }));
    }
    if (!box) return;
    document.querySelectorAll('body > [inert]').forEach((beneath) => { beneath.inert = false; });
    field.focus();
    field.setSelectionRange(box.selectionStart, box.selectionEnd, box.selectionDirection);
    document.querySelector('#porch').remove();
  };
  const waiting = new MutationObserver(takeOver);
  const attributeFilter = ['disabled', 'data-composing'];
  waiting.observe(document, { childList: true, subtree: true, attributes: true, attributeFilter });
  takeOver();

  document.addEventListener('click', (event) => {
    if (event.target.closest('#as-theme')) {
      localStorage.setItem(KEY, document.body.classList.contains('dark') ? 'light' : 'dark');
      paint();
    }
    const play = event.target.closest('[data-do="play"]');
    play?.closest('article').querySelectorAll('video').forEach((video) => {
      video.currentTime = 0;
      video.play();
    });
  });

  document.addEventListener('change', ({ target }) => {
    const name = target.dataset?.language;
    if (!name) return;
    document.cookie = `${name}=${target.value}; max-age=31536000; samesite=lax`;
    location.reload();
  });

  // Two clips side by side: what is done to one is done to the other. The shorter one begins anew
  // alone, at 0.
  const mirror = ({ type, target }) => {
    const pair = [...(target.closest?.('.as-compare')?.querySelectorAll('video') ?? [])];
    const other = pair.find((video) => video !== target);
    if (!other) return;
    if (type === 'play') other.play().catch(() => {});
    else if (type === 'pause') other.pause();
    else if (target.currentTime && Math.abs(target.currentTime - other.currentTime) > 0.05) {
      other.currentTime = target.currentTime;
    }
  };
  for (const type of ['play', 'pause', 'seeking']) document.addEventListener(type, mirror, true);

  const glance = (event, does) => {
    const video = event.target.closest?.('.as-glance');
    if (video) does(video);
  };
  const start = (video) => video.play().catch(() => {});
  const stop = (video) => { video.pause(); video.muted = true; };
  document.addEventListener('pointerover', (event) => glance(event, start));
  document.addEventListener('focusin', (event) => glance(event, start));
  document.addEventListener('pointerout', (event) => glance(event, stop));
  document.addEventListener('focusout', (event) => glance(event, stop));
  document.addEventListener('click', (event) => glance(event, (video) => {
    video.muted = !video.muted;
    start(video);
  }));

  document.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      const button = document.querySelector('#as-render');
      if (button?.offsetParent) button.click();
    }
    if (event.key !== 'Escape' || event.defaultPrevented) return;
    // An open list closes first; it says so by its own state.
    if (document.querySelector('[role="listbox"], [aria-expanded="true"] input')) return;
    document.querySelector('.as-running [data-do="cancel"]')?.click();
  }, true);
})();
