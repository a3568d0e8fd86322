// @ts-check
/** Polygons over an image: their points are shares of its width and height. */
import { svg } from './vendor/lit-html.js';

/** Return the value of an SVG polygon's `points`. @param {number[][]} polygon */
export const points = (polygon) => polygon.map(([x, y]) => `${x},${y}`).join(' ');

const LONGEST = 24;

/** Return a shape's name at its middle, cut to what an image has room for. @param {string} name @param {number[][]} polygon */
export function label(name, polygon) {
  const middle = (/** @type {0 | 1} */ axis) => polygon.reduce((sum, point) => sum + point[axis], 0) / polygon.length;
  const words = name.length > LONGEST ? `${name.slice(0, LONGEST - 1)}…` : name;
  return svg`<text x=${`${middle(0) * 100}%`} y=${`${middle(1) * 100}%`}>${words}</text>`;
}
