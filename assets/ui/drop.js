// A clip dropped anywhere on the page goes to the studio, which reads the settings inside.
const isClip = (event) =>
  [...(event.dataTransfer?.items ?? [])].some((item) => item.type === 'video/mp4');
const glow = (on) => document.body.classList.toggle('as-dropping', on);
window.addEventListener('dragover', (event) => {
  if (!isClip(event)) return;
  event.preventDefault();
  event.stopPropagation();
  glow(true);
}, true);
window.addEventListener('dragleave', (event) => { if (!event.relatedTarget) glow(false); }, true);
window.addEventListener('drop', async (event) => {
  if (!isClip(event)) return;
  event.preventDefault();
  event.stopPropagation();
  glow(false);
  const { path } = await upload(event.dataTransfer.files[0]);
  trigger('upload', { path });
}, true);
