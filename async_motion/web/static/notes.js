// @ts-check
/** Short notes at the edge of the page. */

/**
 * Show a note for a few seconds.
 * @param {string | Node} content @param {number} [seconds]
 */
export function note(content, seconds = 6) {
  const place = document.getElementById('notes');
  if (!place) return;
  const element = document.createElement('div');
  element.className = 'note';
  element.append(content);
  place.append(element);
  while (place.children.length > 3) place.firstElementChild?.remove();
  setTimeout(() => element.remove(), seconds * 1000);
}
