/** A PHP process of its own that holds locks until it is told to let go, or is killed. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { asWebServer, until } from './processes.mjs';

export class Holder {
    #child;
    #stand;

    /** @param {(string|Buffer)[]} names */
    static async start(stand, command, env, names, { mode = 2, ttl = null } = {}) {
        const holder = new Holder();
        holder.#stand = stand;
        const child = spawn('setpriv', [...asWebServer, '--pdeathsig', 'TERM', '--', ...command], {
            env: { ...process.env, ...env },
            stdio: ['pipe', 'pipe', 'inherit'],
        });
        holder.#child = child;
        const base64 = names.map((name) => Buffer.from(name).toString('base64'));
        child.stdin.write(`${JSON.stringify({ names: base64, mode, ttl })}\n`);
        const [said] = await Promise.race([once(child.stdout, 'data'), once(child, 'exit')]);
        if (String(said) !== 'held\n') {
            throw new Error(`hold.php did not get ${names.join(', ')}: ${said}`);
        }
        return holder;
    }

    get pid() {
        return this.#child.pid;
    }

    /** Resolves when somebody on that node waits for the lock. */
    async waiter(name, node) {
        await until(`${node} waits for ${name}`, async () => {
            const lock = (await this.#stand.locks(name)).find((one) => one.name === name);
            return lock?.waiters.some((waiter) => waiter.node === node);
        });
    }

    async release() {
        if (this.#child.exitCode === null && this.#child.signalCode === null) {
            const ended = once(this.#child, 'exit');
            this.#child.stdin.end();
            await ended;
        }
    }
}
