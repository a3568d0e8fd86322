// @ts-check
/**
 * Zones and masks, drawn over the image by mouse, touch and keyboard; judged against the last events before they
 * are saved. A state is plain data; every change makes a new one, so that undo and redo are a list.
 */
import { html, nothing, render, svg } from './vendor/lit-html.js';
import { ApiError, address, ask, at, clock } from './api.js';
import { label, points as pointsOf } from './shapes.js';
import { note } from './notes.js';

/** @typedef {[number, number]} Point */
/** @typedef {{kind: 'zone' | 'mask', name: string, title: string, points: Point[], sensitivity: string, min_area: string}} Shape */
/** @typedef {{shapes: Shape[], min_area: string, min_area_far: string, horizon: string}} State */

const SNAP = 0.018;
const STEP = 0.005;
const NAME = /^[a-z0-9_-]{1,64}$/;

const round = (/** @type {number} */ value) => Math.round(Math.min(1, Math.max(0, value)) * 1e4) / 1e4;
const text = (/** @type {number | null} */ share) => (share === null ? '' : `${Number((share * 100).toPrecision(6))}%`);

/** Return a share as a number; null for a blank, NaN for any other text. @param {string} words */
export function share(words) {
  const match = /^\s*(\d+(?:[.,]\d+)?)\s*(%?)\s*$/.exec(words);
  if (!words.trim()) return null;
  return match ? Number(match[1].replace(',', '.')) / (match[2] ? 100 : 1) : NaN;
}

/** Return the smallest area that counts at a height. @param {number} bottom @param {State} state */
export function smallest(bottom, state) {
  const near = share(state.min_area) || 0;
  const far = share(state.min_area_far);
  if (far === null || Number.isNaN(far) || far >= near) return near;
  const horizon = share(state.horizon) ?? 0.3;
  const way = Math.min(1, Math.max(0, (bottom - horizon) / (1 - horizon)));
  return (Math.sqrt(far) + (Math.sqrt(near) - Math.sqrt(far)) * way) ** 2;
}

/** Return the point of the side from `a` to `b` that is nearest to another. @param {Point} point @param {Point} a @param {Point} b @returns {Point} */
export function nearest([x, y], [ax, ay], [bx, by]) {
  const [dx, dy] = [bx - ax, by - ay];
  const way = Math.min(1, Math.max(0, ((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy || 1)));
  return [ax + way * dx, ay + way * dy];
}

/**
 * Return the changes of a camera's settings from one state to another: what is equal in both is not written, so
 * that the file keeps its comments, and what this page does not show.
 * @param {string} camera @param {State} before @param {State} after
 */
export function changesOf(camera, before, after) {
  /** @type {{place: string[], value: unknown}[]} */
  const changes = [];
  const change = (/** @type {string[]} */ place, /** @type {unknown} */ value) => changes.push({ place: ['cameras', camera, 'detect', ...place], value });
  const zones = (/** @type {State} */ { shapes }) => new Map(shapes.filter(({ kind }) => kind === 'zone').map(({ name, title, points, sensitivity, min_area }) => [
    name, { name: title || null, polygon: points, sensitivity: sensitivity || null, min_area: min_area || null },
  ]));
  const masks = (/** @type {State} */ { shapes }) => shapes.filter(({ kind }) => kind === 'mask').map(({ points }) => points);
  const same = (/** @type {unknown} */ one, /** @type {unknown} */ other) => JSON.stringify(one) === JSON.stringify(other);
  const [old, current] = [zones(before), zones(after)];
  if (old.size && !current.size) change(['zones'], null);
  else for (const name of old.keys()) if (!current.has(name)) change(['zones', name], null);
  for (const [name, zone] of current) {
    const was = old.get(name);
    if (!was) change(['zones', name], zone);
    else for (const [key, value] of Object.entries(zone)) if (!same(value, was[/** @type {keyof typeof was} */ (key)])) change(['zones', name, key], value);
  }
  if (!same(masks(before), masks(after))) change(['masks'], masks(after).length ? masks(after) : null);
  for (const key of /** @type {const} */ (['min_area', 'min_area_far', 'horizon'])) if (before[key] !== after[key]) change([key], after[key] || null);
  return changes;
}

class ZoneEditor extends HTMLElement {
  camera = '';
  version = '';
  /** @type {State} */
  state = { shapes: [], min_area: '', min_area_far: '', horizon: '' };
  saved = this.state;
  /** @type {State[]} */
  past = [];
  /** @type {State[]} */
  future = [];
  chosen = -1;
  point = -1;
  sizes = false;
  snaps = true;
  busy = false;
  /** @type {any} */
  judged = null;
  /** @type {string[]} */
  problems = [];
  stage = /** @type {HTMLElement} */ (this.querySelector('.frame'));
  overlay = document.createElement('div');
  panel = document.createElement('div');

  connectedCallback() {
    this.camera = this.getAttribute('camera') || '';
    const facts = JSON.parse(document.getElementById('facts')?.textContent || '{}');
    this.state = {
      shapes: [
        ...Object.entries(facts.zones).map(([name, zone]) => ({ kind: /** @type {const} */ ('zone'), name, title: zone.title || '', points: zone.polygon, sensitivity: zone.sensitivity || '', min_area: text(zone.min_area) })),
        ...facts.masks.map((/** @type {Point[]} */ points, /** @type {number} */ i) => ({ kind: /** @type {const} */ ('mask'), name: `mask ${i + 1}`, title: '', points, sensitivity: '', min_area: '' })),
      ],
      min_area: text(facts.min_area), min_area_far: text(facts.min_area_far), horizon: text(facts.horizon),
    };
    this.saved = this.state;
    this.version = facts.version;
    this.chosen = this.state.shapes.length ? 0 : -1;
    this.overlay.className = 'overlay';
    // Chrome takes a quick drag for a fling, even under `touch-action: none`, and swallows the click of the next tap.
    this.overlay.addEventListener('touchstart', this.touch, { passive: false });
    this.stage.append(this.overlay);
    this.append(this.panel);
    const image = this.stage.querySelector('img');
    const fit = () => image?.naturalWidth && this.stage.style.setProperty('--ratio', String(image.naturalWidth / image.naturalHeight));
    image?.addEventListener('load', fit);
    if (image?.complete) fit();
    this.addEventListener('keydown', this.key);
    addEventListener('beforeunload', this.leave);
    this.draw();
  }

  disconnectedCallback() {
    removeEventListener('beforeunload', this.leave);
  }

  leave = (/** @type {BeforeUnloadEvent} */ event) => {
    if (this.state !== this.saved) event.preventDefault();
  };

  // ---- the state ----

  /** @param {State} state @param {boolean} [merge] part of the change before it */
  become(state, merge = false) {
    if (!merge) {
      this.past.push(this.state);
      this.future = [];
    }
    this.state = state;
    this.judged = null;
    this.problems = [];
    this.draw();
  }

  undo() {
    const before = this.past.pop();
    if (!before) return;
    this.future.push(this.state);
    this.back(before);
  }

  redo() {
    const after = this.future.pop();
    if (!after) return;
    this.past.push(this.state);
    this.back(after);
  }

  /** @param {State} state */
  back(state) {
    this.state = state;
    this.chosen = Math.min(this.chosen, state.shapes.length - 1);
    this.point = -1;
    this.judged = null;
    this.draw();
  }

  /** @param {number} place @param {Partial<Shape>} change @param {boolean} [merge] */
  alter(place, change, merge) {
    const shapes = this.state.shapes.map((shape, i) => (i === place ? { ...shape, ...change } : shape));
    this.become({ ...this.state, shapes }, merge);
  }

  /** @param {'zone' | 'mask'} kind */
  add(kind) {
    const taken = new Set(this.state.shapes.map(({ name }) => name));
    let number = 1;
    while (taken.has(kind === 'zone' ? `zone_${number}` : `mask ${number}`)) number += 1;
    const shift = (this.state.shapes.length % 5) * 0.04;
    /** @type {Point[]} */
    const points = [[0.3, 0.35], [0.7, 0.35], [0.7, 0.75], [0.3, 0.75]].map(([x, y]) => [round(x + shift), round(y + shift)]);
    const shape = { kind, name: kind === 'zone' ? `zone_${number}` : `mask ${number}`, title: '', points, sensitivity: '', min_area: '' };
    this.chosen = this.state.shapes.length;
    this.point = 0;
    this.become({ ...this.state, shapes: [...this.state.shapes, shape] });
    this.handle(0)?.focus();
  }

  removeShape() {
    const shapes = this.state.shapes.filter((_, i) => i !== this.chosen);
    this.chosen = Math.min(this.chosen, shapes.length - 1);
    this.point = -1;
    this.become({ ...this.state, shapes });
  }

  addPoint() {
    const shape = this.state.shapes[this.chosen];
    if (!shape) return;
    const from = Math.max(0, this.point);
    const [a, b] = [shape.points[from], shape.points[(from + 1) % shape.points.length]];
    this.insert(from + 1, [round((a[0] + b[0]) / 2), round((a[1] + b[1]) / 2)]);
    this.handle(from + 1)?.focus();
  }

  /** @param {number} place @param {Point} point @param {boolean} [merge] */
  insert(place, point, merge) {
    const points = [...this.state.shapes[this.chosen].points];
    points.splice(place, 0, point);
    this.point = place;
    this.alter(this.chosen, { points }, merge);
  }

  removePoint() {
    const shape = this.state.shapes[this.chosen];
    if (!shape || this.point < 0) return;
    if (shape.points.length <= 3) {
      note('A shape has at least three points. Remove the whole shape instead.');
      return;
    }
    const points = shape.points.filter((_, i) => i !== this.point);
    this.point = Math.min(this.point, points.length - 1);
    this.alter(this.chosen, { points });
    this.handle(this.point)?.focus();
  }

  /** @param {number} place @returns {SVGElement | null} */
  handle(place) {
    return this.overlay.querySelector(`[data-point="${place}"]`) ?? null;
  }

  /** Return a point, snapped to the border, else to points and sides of other shapes. @param {Point} point @returns {Point} */
  snap([x, y]) {
    if (!this.snaps) return [round(x), round(y)];
    const others = this.state.shapes.filter((_, i) => i !== this.chosen).map(({ points }) => points);
    const close = (/** @type {Point} */ [a, b]) => Math.hypot(a - x, b - y) < SNAP;
    const corner = others.flat().find(close);
    if (corner) return corner;
    const border = (/** @type {number} */ value) => (value < SNAP ? 0 : value > 1 - SNAP ? 1 : value);
    const at = /** @type {Point} */ ([border(x), border(y)]);
    if (at[0] === x && at[1] === y)
      for (const points of others)
        for (const [i, a] of points.entries()) {
          const foot = nearest(at, a, points[(i + 1) % points.length]);
          if (close(foot)) return [round(foot[0]), round(foot[1])];
        }
    return [round(at[0]), round(at[1])];
  }

  // ---- pointer and keys ----

  /** Keep a touch on a shape from becoming a gesture of the browser's. @param {TouchEvent} event */
  touch = (event) => {
    if (/** @type {Element} */ (event.target).matches('polygon, circle')) event.preventDefault();
  };

  /** @param {PointerEvent} event @returns {Point} */
  where(event) {
    const box = this.overlay.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }

  /**
   * Follow a pointer. @param {PointerEvent} event @param {(to: Point, merge: boolean) => void} move
   */
  drag(event, move) {
    event.preventDefault();
    event.stopPropagation();
    const target = /** @type {Element} */ (this.overlay.querySelector('svg'));
    target.setPointerCapture(event.pointerId);
    let moved = false;
    const mine = (/** @type {Event} */ each) => /** @type {PointerEvent} */ (each).pointerId === event.pointerId;
    const follow = (/** @type {Event} */ each) => {
      if (!mine(each)) return;
      move(this.where(/** @type {PointerEvent} */ (each)), moved);
      moved = true;
    };
    const end = (/** @type {Event} */ each) => {
      if (!mine(each)) return;
      target.removeEventListener('pointermove', follow);
      target.removeEventListener('pointerup', end);
      target.removeEventListener('pointercancel', end);
    };
    target.addEventListener('pointermove', follow);
    target.addEventListener('pointerup', end);
    target.addEventListener('pointercancel', end);
  }

  /** @param {PointerEvent} event @param {number} place */
  dragPoint(event, place) {
    this.point = place;
    this.draw();
    this.handle(place)?.focus({ preventScroll: true });
    this.drag(event, (to, merge) => {
      const points = this.state.shapes[this.chosen].points.map((point, i) => (i === place ? this.snap(to) : point));
      this.alter(this.chosen, { points }, merge);
    });
  }

  /** @param {PointerEvent} event @param {number} place */
  dragMiddle(event, place) {
    this.insert(place, this.snap(this.where(event)));
    this.dragPoint(event, place);
  }

  /** @param {PointerEvent} event @param {number} chosen */
  dragShape(event, chosen) {
    this.choose(chosen);
    const start = this.where(event);
    const { points } = this.state.shapes[chosen];
    this.drag(event, (to, merge) => this.shift(points, to[0] - start[0], to[1] - start[1], merge));
  }

  /** @param {Point[]} points @param {number} dx @param {number} dy @param {boolean} [merge] */
  shift(points, dx, dy, merge) {
    const [xs, ys] = [points.map(([x]) => x), points.map(([, y]) => y)];
    dx = Math.min(1 - Math.max(...xs), Math.max(-Math.min(...xs), dx));
    dy = Math.min(1 - Math.max(...ys), Math.max(-Math.min(...ys), dy));
    this.alter(this.chosen, { points: points.map(([x, y]) => /** @type {Point} */ ([round(x + dx), round(y + dy)])) }, merge);
  }

  /** @param {number} chosen */
  choose(chosen) {
    this.chosen = chosen;
    this.point = -1;
    this.draw();
  }

  /** @param {KeyboardEvent} event */
  key = (event) => {
    const typing = event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement;
    if ((event.ctrlKey || event.metaKey) && !typing && ['z', 'y'].includes(event.key.toLowerCase())) {
      if (event.key.toLowerCase() === 'y' || event.shiftKey) this.redo();
      else this.undo();
      event.preventDefault();
      return;
    }
    const target = /** @type {SVGElement} */ (event.target);
    if (!(target instanceof SVGElement)) return;
    const step = event.shiftKey ? STEP * 10 : STEP;
    const [dx, dy] = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key] ?? [0, 0];
    const point = target.dataset.point;
    if (point !== undefined) {
      this.point = Number(point);
      if (dx || dy) {
        const points = this.state.shapes[this.chosen].points.map(([x, y], i) => /** @type {Point} */ (i === this.point ? [round(x + dx), round(y + dy)] : [x, y]));
        this.alter(this.chosen, { points });
      } else if (event.key === 'Delete' || event.key === 'Backspace') this.removePoint();
      else if (event.key === 'Insert' || event.key === '+') this.addPoint();
      else return;
    } else if (target.dataset.shape !== undefined) {
      const shape = Number(target.dataset.shape);
      if (event.key === 'Enter' || event.key === ' ') {
        this.choose(shape);
        this.handle(0)?.focus();
      } else if (dx || dy) {
        this.chosen = shape;
        this.shift(this.state.shapes[shape].points, dx, dy);
      } else if (event.key === 'Delete') {
        this.chosen = shape;
        this.removeShape();
      } else return;
    } else return;
    event.preventDefault();
  };

  // ---- judging and saving ----

  /** Return what is wrong with what was typed. */
  faults() {
    const faults = [];
    const names = this.state.shapes.filter(({ kind }) => kind === 'zone').map(({ name }) => name);
    for (const name of names) if (!NAME.test(name)) faults.push(`“${name}”: expected 1 to 64 of a-z, 0-9, _ and -`);
    if (new Set(names).size < names.length) faults.push('Two zones have the same name.');
    const areas = [this.state.min_area, this.state.min_area_far, this.state.horizon, ...this.state.shapes.map(({ min_area }) => min_area)];
    if (areas.some((area) => Number.isNaN(share(area) ?? 0))) faults.push('An area cannot be read: expected a share such as 0.2%.');
    return faults;
  }

  zones() {
    return Object.fromEntries(this.state.shapes.filter(({ kind }) => kind === 'zone').map((shape) => [
      shape.name, { polygon: shape.points, sensitivity: shape.sensitivity || null, min_area: share(shape.min_area) },
    ]));
  }

  masks() {
    return this.state.shapes.filter(({ kind }) => kind === 'mask').map(({ points }) => points);
  }

  async judge() {
    this.problems = this.faults();
    if (this.problems.length) return this.draw();
    this.busy = true;
    this.draw();
    try {
      const { state } = this;
      const horizon = share(state.horizon) ?? 0.3;
      const body = { masks: this.masks(), zones: this.zones(), min_area: share(state.min_area) ?? 0.002, min_area_far: share(state.min_area_far), horizon };
      const { events } = await ask(at`cameras/${this.camera}/zones/try`, { method: 'POST', body });
      if (this.state === state) this.judged = events;
    } catch (error) {
      this.problems = [/** @type {Error} */ (error).message];
    }
    this.busy = false;
    this.draw();
  }

  async save() {
    this.problems = this.faults();
    if (this.problems.length) return this.draw();
    this.busy = true;
    this.draw();
    const state = this.state;
    const changes = changesOf(this.camera, this.saved, state);
    if (!changes.length) {
      this.saved = state;
      this.busy = false;
      return this.draw();
    }
    try {
      const { done, version } = await ask('settings', { method: 'PUT', body: { version: this.version, changes } });
      this.version = version;
      this.saved = state;
      note(`Saved. ${done.join('. ')}.`);
    } catch (error) {
      this.problems = error instanceof ApiError && error.problems.length ? error.problems : [/** @type {Error} */ (error).message];
    }
    this.busy = false;
    this.draw();
  }

  // ---- drawing ----

  draw() {
    render(this.shapes(), this.overlay);
    render(this.controls(), this.panel);
  }

  shapes() {
    const chosen = this.state.shapes[this.chosen];
    const middles = chosen ? chosen.points.map((a, i) => {
      const b = chosen.points[(i + 1) % chosen.points.length];
      return [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
    }) : [];
    const at100 = (/** @type {number} */ value) => `${value * 100}%`;
    return html`<svg class="layer editing" role="group" aria-label="Shapes">
      <svg viewBox="0 0 1 1" preserveAspectRatio="none" width="100%" height="100%">
        ${this.state.shapes.map((shape, i) => svg`<polygon tabindex="0" role="button" data-shape=${i} class=${`${shape.kind}${i === this.chosen ? ' chosen' : ''}`}
          points=${pointsOf(shape.points)} aria-label=${`${shape.kind} ${shape.name}: Enter to edit its points, arrows to move it`}
          @pointerdown=${(/** @type {PointerEvent} */ e) => this.dragShape(e, i)} />`)}
        ${this.sizes ? this.rectangles() : nothing}
      </svg>
      <svg class="names" width="100%" height="100%" aria-hidden="true">${this.state.shapes.map(({ name, points }) => label(name, points))}</svg>
      ${middles.map(([x, y], i) => svg`<circle class="middle" cx=${at100(x)} cy=${at100(y)} r="7" @pointerdown=${(/** @type {PointerEvent} */ e) => this.dragMiddle(e, i + 1)} />`)}
      ${chosen ? chosen.points.map(([x, y], i) => svg`<circle class="touch" cx=${at100(x)} cy=${at100(y)} r="22" @pointerdown=${(/** @type {PointerEvent} */ e) => this.dragPoint(e, i)} />
        <circle tabindex="0" role="button" class=${`point${i === this.point ? ' chosen' : ''}`} data-point=${i} cx=${at100(x)} cy=${at100(y)} r="8"
          aria-label=${`Point ${i + 1} of ${chosen.name}: ${Math.round(x * 100)} % from the left, ${Math.round(y * 100)} % from the top`}
          @focus=${() => { if (this.point !== i) { this.point = i; this.draw(); } }} @pointerdown=${(/** @type {PointerEvent} */ e) => this.dragPoint(e, i)} />`) : nothing}
    </svg>`;
  }

  /** The smallest things that count, as they would appear in the image. */
  rectangles() {
    const box = this.overlay.getBoundingClientRect();
    const ratio = box.height ? box.width / box.height : 16 / 9;
    return [0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1].flatMap((bottom) => [0.1, 0.3, 0.5, 0.7, 0.9].map((x) => {
      const height = Math.sqrt(smallest(bottom, this.state) * ratio);
      return svg`<rect class="size" x=${x - height / ratio / 2} y=${bottom - height} width=${height / ratio} height=${height} />`;
    }));
  }

  controls() {
    const shape = this.state.shapes[this.chosen];
    const icon = (/** @type {string} */ name) => html`<svg class="icon" aria-hidden="true"><use href=${`#icon-${name}`} /></svg>`;
    const dirty = this.state !== this.saved;
    return html`
      <div class="bar tools">
        <button @click=${() => this.add('zone')}>${icon('add')}Zone</button>
        <button @click=${() => this.add('mask')}>${icon('add')}Mask</button>
        <button class="quiet" ?disabled=${!this.past.length} aria-label="Undo" @click=${() => this.undo()}>${icon('undo')}</button>
        <button class="quiet" ?disabled=${!this.future.length} aria-label="Redo" @click=${() => this.redo()}>${icon('redo')}</button>
        <button class="chip" aria-pressed=${String(this.snaps)} @click=${() => { this.snaps = !this.snaps; this.draw(); }}>Snap</button>
        <button class="chip" aria-pressed=${String(this.sizes)} @click=${() => { this.sizes = !this.sizes; this.draw(); }}>Smallest sizes</button>
        <span class="grow"></span>
        <button ?disabled=${this.busy} @click=${() => this.judge()}>Try on the last events</button>
        <button class="primary" ?disabled=${this.busy || !dirty} @click=${() => this.save()}>${icon('check')}Save</button>
      </div>
      ${this.problems.length ? html`<ul class="problem panel" role="alert">${this.problems.map((problem) => html`<li>${problem}</li>`)}</ul>` : nothing}
      ${this.verdict()}
      <div class="columns">
        <section class="panel"><h2>Shapes</h2>
          <div class="chips">${this.state.shapes.map((each, i) => html`<button class="chip" aria-pressed=${String(i === this.chosen)} @click=${() => this.choose(i)}>${each.name}</button>`)}
          ${this.state.shapes.length ? nothing : html`<p class="dim">None yet. A zone is reported by itself; under a mask nothing counts.</p>`}</div>
          ${shape ? html`<div class="fields">
            ${shape.kind === 'zone' ? html`
              <p><label for="zone-name">Name</label><input id="zone-name" .value=${shape.name} @change=${(/** @type {Event} */ e) => this.alter(this.chosen, { name: /** @type {HTMLInputElement} */ (e.target).value.trim() })}></p>
              <p><label for="zone-sensitivity">Sensitivity</label><select id="zone-sensitivity" @change=${(/** @type {Event} */ e) => this.alter(this.chosen, { sensitivity: /** @type {HTMLSelectElement} */ (e.target).value })}>
                ${['', 'low', 'medium', 'high'].map((level) => html`<option value=${level} ?selected=${level === shape.sensitivity}>${level || 'as the camera'}</option>`)}</select></p>
              <p><label for="zone-area">Smallest area</label><input id="zone-area" placeholder="as the camera" .value=${shape.min_area} @change=${(/** @type {Event} */ e) => this.alter(this.chosen, { min_area: /** @type {HTMLInputElement} */ (e.target).value.trim() })}></p>` : nothing}
            <p class="submit"><button @click=${() => this.addPoint()}>Add point</button><button ?disabled=${this.point < 0} @click=${() => this.removePoint()}>Remove point</button></p>
            <p class="submit"><button class="danger" @click=${() => this.removeShape()}>${icon('trash')}Remove ${shape.kind}</button></p>
          </div>` : nothing}
        </section>
        <section class="panel"><h2>What is too small</h2><div class="fields">
          ${this.area('min_area', 'Smallest area, near')}${this.area('min_area_far', 'Smallest area, at the horizon')}${this.area('horizon', 'Horizon, from the top')}
        </div><p class="dim small">Shares of the image. “Smallest sizes” shows them in place.</p></section>
      </div>`;
  }

  /** @param {'min_area' | 'min_area_far' | 'horizon'} key @param {string} words */
  area(key, words) {
    return html`<p><label for=${key}>${words}</label><input id=${key} .value=${this.state[key]} placeholder=${key === 'min_area_far' ? 'as near' : ''}
      @change=${(/** @type {Event} */ e) => this.become({ ...this.state, [key]: /** @type {HTMLInputElement} */ (e.target).value.trim() })}></p>`;
  }

  verdict() {
    if (!this.judged) return nothing;
    const lost = this.judged.filter((/** @type {any} */ each) => !each.reported);
    const count = this.judged.length;
    const zones = this.state.shapes.filter(({ kind }) => kind === 'zone').map(({ name }) =>
      `${name} ${this.judged.filter((/** @type {any} */ each) => each.zones.includes(name)).length}`);
    if (!count) return html`<p class="panel" role="status">There are no stored events of this camera yet.</p>`;
    const all = count === 1 ? 'The last event' : `All of the last ${count} events`;
    return html`<section class="panel" role="status"><p>${!lost.length ? `${all} would have been reported.`
      : count === 1 ? html`<b>The last event would not have been reported</b>:`
      : html`Of the last ${count} events <b>${lost.length} would not have been reported</b>${lost.length === count ? '' : lost.length === 1 ? ', this one' : ', these'}:`}</p>
      ${zones.length ? html`<p>By zone: ${zones.join(', ')}.</p>` : nothing}
      <div class="strip">${lost.slice(0, 24).map((/** @type {any} */ { event }) => html`<a href=${`event?camera=${encodeURIComponent(event.camera)}&id=${event.event_id}`} target="_blank" rel="noopener">
        ${event.best === null ? nothing : html`<img loading="lazy" alt=${`${event.started_at.slice(0, 10)} ${clock(event.started_at)}`} src=${address(at`events/${event.camera}/${event.event_id}/frames/${event.best}`) + '?width=320'}>`}</a>`)}</div>
      <p class="dim small">An estimate from the stored boxes: motion that was never stored is not included, and a zone’s sensitivity makes no difference to it.</p></section>`;
  }
}

customElements.define('zone-editor', ZoneEditor);
