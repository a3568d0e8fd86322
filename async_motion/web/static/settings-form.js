// @ts-check
/** The settings as forms, made from what describes them; saved as one change, with every problem shown in its place. */
import { html, nothing, render } from './vendor/lit-html.js';
import { ApiError, address, ask, at } from './api.js';
import { note } from './notes.js';

const GROUPS = {
  '': 'General', log: 'Log', minio: 'Store: MinIO or any S3', directory: 'Store: directory', mqtt: 'Broker', spool: 'Spool', web: 'Page', location: 'Location',
  camera: 'Camera', capture: 'Capture', detect: 'Detection', profiles: 'Day and night', event: 'Events', jpeg: 'Stills',
};
const COMMON = new Set([
  'minio.endpoint', 'minio.bucket', 'minio.access_key', 'minio.secret_key', 'minio.secure', 'mqtt.host', 'mqtt.port', 'mqtt.username', 'mqtt.password', 'directory.path',
  'web.token', 'web.viewer_token', 'web.host', 'web.port', 'log.level', 'spool.max_bytes', 'spool.max_age', 'location.latitude', 'location.longitude', 'instance',
  'name', 'enabled', 'source', 'record_source', 'capture.decode', 'detect.enabled', 'detect.fps', 'detect.sensitivity', 'detect.min_area', 'event.frames', 'event.pre', 'event.off_delay',
  'event.max_length', 'profiles.switch', 'profiles.night.sensitivity', 'jpeg.quality',
]);

/** @typedef {{place: string[], kind: string, choices: string[], default: string, hint: string, help: string, required: boolean}} SettingsField */

class SettingsForm extends HTMLElement {
  camera = this.getAttribute('camera');
  isNew = this.hasAttribute('new');
  /** @type {any} */
  settings = null;
  /** @type {Map<string, string>} */
  changes = new Map();
  /** @type {string[]} */
  problems = [];
  newName = '';
  probe = '';
  busy = false;

  async connectedCallback() {
    await this.load();
    addEventListener('beforeunload', (event) => this.changes.size && event.preventDefault());
  }

  async load() {
    try {
      this.settings = await ask('settings');
    } catch (error) {
      note(/** @type {Error} */ (error).message);
      return;
    }
    this.replaceChildren();
    this.draw();
  }

  /** @param {SettingsField} field */
  key(field) {
    return field.place.map((part, i) => (part === '*' && i === 1 ? this.camera ?? this.newName : part)).join('.');
  }

  /** @param {SettingsField} field */
  short(field) {
    return (field.place[0] === 'cameras' ? field.place.slice(2) : field.place).join('.');
  }

  /** @returns {SettingsField[]} */
  fields() {
    const ours = this.camera !== null || this.isNew;
    return this.settings.fields.filter((/** @type {SettingsField} */ field) => (field.place[0] === 'cameras') === ours && field.kind !== 'shape');
  }

  /** @param {SettingsField} field @param {string} value */
  change(field, value) {
    const key = this.short(field);
    const before = this.settings.values[this.key(field)] ?? '';
    if (field.kind !== 'secret' && value === before) this.changes.delete(key);
    else this.changes.set(key, value);
    this.problems = [];
    this.draw();
  }

  async save(dry = false) {
    if (this.isNew && !/^[a-z0-9_-]{1,64}$/.test(this.newName)) {
      this.problems = ['The name of the new camera: expected 1 to 64 of a-z, 0-9, _ and -'];
      return this.draw();
    }
    const prefix = this.camera !== null ? ['cameras', this.camera] : this.isNew ? ['cameras', this.newName] : [];
    const changes = [...this.changes].map(([key, value]) => ({ place: [...prefix, ...key.split('.')], value: value === '' ? null : value }));
    this.busy = true;
    this.draw();
    try {
      const { done } = await ask('settings', { method: 'PUT', body: { version: this.settings.version, changes, dry_run: dry } });
      if (dry) note(`This would do: ${done.join('. ')}.`);
      else {
        note(`Saved. ${done.join('. ')}.`);
        this.changes.clear();
        if (this.isNew) {
          setTimeout(() => location.assign(`zones?camera=${encodeURIComponent(this.newName)}`), 800);
          return;
        }
        await this.load();
      }
    } catch (error) {
      this.problems = error instanceof ApiError && error.problems.length ? error.problems : [/** @type {Error} */ (error).message];
    }
    this.busy = false;
    this.draw();
  }

  async removeCamera() {
    try {
      await ask('settings', { method: 'PUT', body: { version: this.settings.version, changes: [{ place: ['cameras', this.camera], value: null }] } });
      this.changes.clear();
      location.assign('settings');
    } catch (error) {
      this.problems = error instanceof ApiError && error.problems.length ? error.problems : [/** @type {Error} */ (error).message];
      this.querySelector('dialog')?.close();
      this.draw();
    }
  }

  async reload() {
    try {
      const { done } = await ask('settings/reload', { method: 'POST' });
      note(`Read again. ${done.join('. ')}.`);
      await this.load();
    } catch (error) {
      this.problems = error instanceof ApiError && error.problems.length ? error.problems : [/** @type {Error} */ (error).message];
      this.draw();
    }
  }

  async tryProbe() {
    const source = this.changes.get('source');
    if (!source) return;
    this.busy = true;
    this.draw();
    try {
      const response = await fetch(address('settings/probe'), { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ source }) });
      if (!response.ok) throw new ApiError(response.status, await response.json());
      this.probe = URL.createObjectURL(await response.blob());
      this.problems = [];
    } catch (error) {
      this.probe = '';
      this.problems = error instanceof ApiError && error.problems.length ? error.problems : [/** @type {Error} */ (error).message];
    }
    this.busy = false;
    this.draw();
  }

  draw() {
    /** @type {Map<string, SettingsField[]>} */
    const groups = new Map();
    for (const field of this.fields()) {
      const parts = this.short(field).split('.');
      const group = parts.length > 1 ? parts[0] : field.place[0] === 'cameras' ? 'camera' : '';
      groups.set(group, [...(groups.get(group) ?? []), field]);
    }
    const count = this.changes.size;
    render(html`
      ${this.isNew ? html`<section class="panel group"><h2>A new camera</h2><div class="fields wide"><p><label for="new-name">Name in topics and keys</label>
        <input id="new-name" autocomplete="off" .value=${this.newName} @input=${(/** @type {Event} */ e) => { this.newName = /** @type {HTMLInputElement} */ (e.target).value.trim(); }}>
        <span class="dim small">a-z, 0-9, _ and -; it stays for good.</span></p></div></section>` : nothing}
      ${[...groups].map(([group, fields]) => this.group(group, fields))}
      ${this.problems.length ? html`<ul class="problem panel" role="alert">${this.problems.map((problem) => html`<li>${problem}</li>`)}</ul>` : nothing}
      <div class=${`bar save${count ? ' due' : ''}`}>
        <button class="primary" ?disabled=${this.busy || !count} @click=${() => this.save()}>${this.isNew ? 'Add the camera' : count ? `Save ${count} change${count === 1 ? '' : 's'}` : 'Save'}</button>
        <button ?disabled=${this.busy || !count} @click=${() => this.save(true)}>What would it do?</button>
        ${this.camera === null && !this.isNew ? html`<span class="grow"></span><button @click=${() => this.reload()}>Read the file again</button>` : nothing}
      </div>
        ${this.camera !== null ? html`<p><button class="danger" @click=${() => /** @type {HTMLDialogElement} */ (this.querySelector('dialog')).showModal()}>Remove the camera</button></p>
          <dialog aria-labelledby="remove-title"><h2 id="remove-title">Remove ${this.camera}?</h2><p>It leaves the settings. Its stored events stay.</p>
          <form method="dialog" class="bar"><button autofocus>Keep it</button><button class="danger" type="button" @click=${() => this.removeCamera()}>Remove</button></form></dialog>` : nothing}`, this);
  }

  /** @param {string} group @param {SettingsField[]} fields */
  group(group, fields) {
    const known = (/** @type {SettingsField} */ field) => COMMON.has(this.short(field)) || this.changes.has(this.short(field)) || this.settings.environment[this.key(field)];
    const first = fields.filter(known);
    const rest = fields.filter((field) => !known(field));
    const title = GROUPS[/** @type {keyof GROUPS} */ (group)] ?? group;
    return html`<section class="panel group" id=${`group-${group}`}><h2>${title}</h2>
      ${first.length ? html`<div class="fields wide">${first.map((field) => this.field(field))}</div>` : nothing}
      ${rest.length ? html`<details><summary>${first.length ? 'More' : 'Show'}: ${rest.length} setting${rest.length === 1 ? '' : 's'}</summary><div class="fields wide">${rest.map((field) => this.field(field))}</div></details>` : nothing}
    </section>`;
  }

  /** @param {SettingsField} field */
  field(field) {
    const key = this.key(field);
    const short = this.short(field);
    const id = `field-${short.replaceAll('.', '-')}`;
    const variable = this.settings.environment[key];
    const changed = this.changes.get(short);
    const value = changed ?? this.settings.values[key] ?? '';
    const label = short.split('.').slice(short.includes('.') ? 1 : 0).join(' · ').replaceAll('_', ' ');
    const told = (/** @type {Event} */ event) => this.change(field, /** @type {HTMLInputElement} */ (event.target).value);
    const secret = this.settings.secrets[key];
    let control;
    if (field.kind === 'choice' || field.kind === 'flag') {
      const choices = field.kind === 'flag' ? ['true', 'false'] : field.choices;
      const words = (/** @type {string} */ choice) => (field.kind === 'flag' ? { true: 'yes', false: 'no' }[choice] ?? choice : choice);
      control = html`<select id=${id} ?disabled=${Boolean(variable)} aria-describedby=${`${id}-help`} @change=${told}>
        <option value="" ?selected=${value === ''}>${field.default ? `${words(field.default)} (default)` : '–'}</option>
        ${choices.map((choice) => html`<option value=${choice} ?selected=${choice === value}>${words(choice)}</option>`)}</select>`;
    } else if (field.kind === 'secret') {
      control = html`<input id=${id} type=${field.place.at(-1)?.endsWith('source') ? 'text' : 'password'} autocomplete="new-password" spellcheck="false" ?disabled=${Boolean(variable)} aria-describedby=${`${id}-help`}
        .value=${changed ?? ''} placeholder=${secret === undefined ? (field.required ? 'rtsp://user:password@192.0.2.10/stream2' : 'not set') : secret || 'set; type to replace it'} @change=${told}>`;
    } else {
      control = html`<input id=${id} spellcheck="false" ?disabled=${Boolean(variable)} aria-describedby=${`${id}-help`} .value=${value} placeholder=${field.default} @change=${told}>`;
    }
    return html`<p class=${changed === undefined ? '' : 'changed'}><label for=${id}>${label}</label>${control}
      <span class="dim small" id=${`${id}-help`}>${variable ? `From the environment: ${variable}` : field.help || field.hint}</span>
      ${short === 'source' && (this.isNew || changed) ? html`<button type="button" ?disabled=${this.busy || !changed} @click=${() => this.tryProbe()}>Show a frame</button>
        ${this.probe ? html`<img class="probe" src=${this.probe} alt="What this camera sees">` : nothing}` : nothing}</p>`;
  }
}

customElements.define('settings-form', SettingsForm);
