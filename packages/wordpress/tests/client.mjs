/** An administrator, a subscriber or a visitor who speaks HTTP with the stand, and whom their theme compiler calls. */

import { createServer } from 'node:http';
import { Agent, request } from 'node:https';
import { once } from 'node:events';

export class Client {
    #cookies = new Map();
    #agent;
    #nonce;

    /** @param {import('../stand/stand.mjs').Stand} stand */
    constructor(stand) {
        this.stand = stand;
        this.#agent = new Agent({ ca: stand.certificate, keepAlive: true, maxSockets: 64 });
    }

    /** Somebody who is logged in: on all nodes, since they are one site. */
    static async loggedIn(stand, user = 'admin') {
        const client = new Client(stand);
        await client.get('/wp-login.php');
        const form = { log: user, pwd: stand.passwords[user], testcookie: '1' };
        const answer = await client.post('/wp-login.php', form);
        if (answer.status !== 302) {
            throw new Error(`${user} cannot log in: ${answer.status} ${answer.body.slice(0, 2000)}`);
        }
        return client;
    }

    /** The cookies of the session, for a browser. */
    get cookies() {
        return [...this.#cookies].map(([name, value]) => ({ name, value }));
    }

    get(path, options = {}) {
        return this.request('GET', path, options);
    }

    post(path, form, options = {}) {
        const body = new URLSearchParams(form).toString();
        const headers = { 'Content-Type': 'application/x-www-form-urlencoded', ...options.headers };
        return this.request('POST', path, { ...options, body, headers });
    }

    /** @returns {Promise<{status: number, headers: object, body: string}>} */
    async request(method, path, { node = 'site', headers = {}, body } = {}) {
        const url = new URL(path, this.stand.url(node));
        const cookie = [...this.#cookies].map(([name, value]) => `${name}=${value}`).join('; ');
        const sent = request(url, { method, agent: this.#agent, headers: { ...headers, ...(cookie ? { cookie } : {}) } });
        sent.end(body);
        const [answer] = await once(sent, 'response');
        for (const line of answer.headers['set-cookie'] ?? []) {
            const [, name, value] = /^([^=]+)=([^;]*)/.exec(line);
            this.#cookies.set(name, value);
        }
        const chunks = await answer.toArray();
        return { status: answer.statusCode, headers: answer.headers, body: Buffer.concat(chunks).toString() };
    }

    /** The REST API, with this user's nonce unless another one, or null for none, is given. */
    async rest(method, route, { node, nonce, form = {} } = {}) {
        const given = nonce === undefined ? (await this.get('/wp-admin/admin-ajax.php?action=rest-nonce')).body : nonce;
        const headers = given === null ? {} : { 'X-WP-Nonce': given };
        const path = `/wp-json/${route}`;
        const answer = await (method === 'GET' ? this.get(path, { node, headers }) : this.post(path, form, { node, headers }));
        return { ...answer, json: JSON.parse(answer.body) };
    }

    /** Presses Save in the theme compiler of the stand (mu-plugins/theme-compiler.php); throws unless it is saved. */
    async save(node, action, form) {
        this.#nonce ??= JSON.parse((await this.get('/wp-admin/admin-ajax.php?action=stand_nonce')).body).data;
        const answer = await this.post('/wp-admin/admin-ajax.php', { action, _wpnonce: this.#nonce, ...form }, { node });
        if (answer.status !== 200) {
            throw new Error(`${action} on ${node}: ${answer.status} ${answer.body.slice(0, 500)}`);
        }
        return JSON.parse(answer.body).data;
    }

    close() {
        this.#agent.destroy();
    }
}

/** A font server that answers when it is told to: what a theme compiler waits for, with or without a lock. */
export class FontServer {
    #waiting = [];
    #open = false;
    #watchers = [];

    static async start() {
        const fonts = new FontServer();
        fonts.server = createServer((_, answer) => {
            fonts.#waiting.push(answer);
            fonts.#tell();
        });
        fonts.server.listen(0, '127.0.0.1');
        await once(fonts.server, 'listening');
        fonts.url = `http://127.0.0.1:${fonts.server.address().port}/font.css`;
        return fonts;
    }

    /** Resolves when so many wait for an answer; rejects when they have not come within a minute. */
    waiting(count) {
        return new Promise((resolve, reject) => {
            const late = () => reject(new Error(`${this.#waiting.length} of ${count} asked for the font within 60 s`));
            const timer = setTimeout(late, 60_000).unref();
            this.#watchers.push({ count, resolve: () => (clearTimeout(timer), resolve()) });
            this.#tell();
        });
    }

    /** Answers those who wait, or the first `count` of them; with `always` those who come later at once. */
    answer({ count = Infinity, always = false } = {}) {
        this.#open = always;
        for (const answer of this.#waiting.splice(0, count)) {
            answer.end('/* a font */');
        }
    }

    async stop() {
        this.answer();
        this.server.close();
        this.server.closeAllConnections();
        await once(this.server, 'close');
    }

    #tell() {
        if (this.#open) {
            this.answer({ always: true });
        }
        const reached = ({ count }) => this.#waiting.length >= count;
        this.#watchers.filter(reached).forEach(({ resolve }) => resolve());
        this.#watchers = this.#watchers.filter((watcher) => !reached(watcher));
    }
}
