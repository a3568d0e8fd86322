// @ts-check
/** What every page loads: the elements that a page holds are fetched, others are not. */

const ELEMENTS = {
  'live-wall': './live-wall.js',
  'live-camera': './live-camera.js',
  'event-grid': './event-grid.js',
  'event-actions': './event-actions.js',
  'flip-book': './flip-book.js',
  'set-aside': './set-aside.js',
  'settings-form': './settings-form.js',
  'zone-editor': './zone-editor.js',
};

for (const [name, module] of Object.entries(ELEMENTS))
  if (document.querySelector(name)) import(module);

document.querySelector('.many [aria-current]')?.scrollIntoView({ block: 'nearest', inline: 'center' });

// A page that stays open for weeks requests the API alone, which does not renew the cookie.
setInterval(() => fetch('healthz').catch(() => {}), 12 * 3600_000);
