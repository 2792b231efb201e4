/**
 * The servers of a stand: on free ports of 127.0.0.1 and sockets in the temporary directory, stopped by their own pid,
 * and with this process should it be killed.
 */

import { execFile, spawn } from 'node:child_process';
import { accessSync, constants, openSync, closeSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';

/** As root, servers and PHP run as the user that Debian made for web servers; else as whoever runs this. */
export const asWebServer =
    process.getuid() === 0 ? ['--reuid', 'www-data', '--regid', 'www-data', '--init-groups'] : [];

/** Where a program is; servers live in sbin, which is not on everybody's PATH. */
export function which(...names) {
    const directories = `${process.env.PATH}:/usr/local/sbin:/usr/sbin:/sbin`.split(':');
    for (const name of names) {
        for (const directory of directories) {
            const path = `${directory}/${name}`;
            try {
                accessSync(path, constants.X_OK);
                return path;
            } catch {
                // The next directory, then.
            }
        }
    }
    throw new Error(`no ${names.join(' or ')} found: run script/bootstrap wordpress`);
}

/** Runs a program to its end and returns what it prints; an Error with what it said when it fails. */
export async function run(program, args, { webServer = false, env = {}, input, timeout = 120_000 } = {}) {
    const command = [program, ...args];
    if (webServer) {
        command.unshift('setpriv', ...asWebServer, '--');
    }
    const running = promisify(execFile)(command[0], command.slice(1), {
        env: { ...process.env, ...env },
        maxBuffer: 64 << 20,
        timeout,
    });
    // A program that has ended already says why by itself.
    running.child.stdin.on('error', () => {});
    running.child.stdin.end(input);
    try {
        return (await running).stdout;
    } catch (error) {
        throw new Error(`${program} failed (${error.code ?? error.signal}): ${error.stderr || error.stdout}`);
    }
}

/** On Ctrl-C and its like: closes what was opened, then ends with the exit code that a shell gives for the signal. */
export function onSignal(close) {
    let closing;
    for (const [signal, number] of Object.entries({ SIGINT: 2, SIGTERM: 15, SIGHUP: 1 })) {
        // A second signal does not cut the first one's work short.
        process.on(signal, async () => {
            try {
                await (closing ??= close());
            } finally {
                process.exit(128 + number);
            }
        });
    }
}

/** A TCP port of 127.0.0.1 that nobody uses at the moment; below those that the kernel gives to outgoing connections. */
export function freePort() {
    return new Promise((resolve, reject) => {
        const port = 12_000 + Math.floor(Math.random() * 20_000);
        const probe = createServer();
        probe.once('error', (error) => (error.code === 'EADDRINUSE' ? resolve(freePort()) : reject(error)));
        probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(port)));
    });
}

/**
 * Asks until the answer is neither false nor an exception, and returns it. For states that no event announces.
 *
 * @param {string} what what is awaited, for the message
 * @param {() => Promise<*>} ask
 */
export async function until(what, ask, { seconds = 60, every = 50, alive = () => true } = {}) {
    const deadline = Date.now() + seconds * 1000;
    for (;;) {
        let last;
        try {
            const answer = await ask();
            if (answer) {
                return answer;
            }
        } catch (error) {
            last = error;
        }
        if (!alive() || Date.now() > deadline) {
            const why = alive() ? `not within ${seconds} s` : 'it has ended';
            throw new Error(`${what}: ${why}`, { cause: last });
        }
        await delay(every);
    }
}

/** One server. */
export class Server {
    #child = null;

    /**
     * @param {string} name
     * @param {string} log file for what it prints
     * @param {string[]} command
     * @param {{webServer?: boolean, env?: object}} options webServer: not as root
     */
    constructor(name, log, command, { webServer = true, env = {} } = {}) {
        this.name = name;
        this.log = log;
        this.command = ['setpriv', ...(webServer ? asWebServer : []), '--pdeathsig', 'TERM', '--', ...command];
        this.env = { ...process.env, ...env };
    }

    get pid() {
        return this.#child?.pid;
    }

    get running() {
        return this.#child !== null && this.#child.exitCode === null && this.#child.signalCode === null;
    }

    /** Starts it and waits until `ready()` does not throw. */
    async start(ready) {
        const log = openSync(this.log, 'a');
        this.#child = spawn(this.command[0], this.command.slice(1), { env: this.env, stdio: ['ignore', log, log] });
        closeSync(log);
        try {
            await until(`${this.name} is ready`, async () => (await ready(), true), { alive: () => this.running });
        } catch (error) {
            throw new Error(`${error.message}\n${tail(this.log)}`, { cause: error.cause });
        }
    }

    /** SIGTERM, and after 10 s SIGKILL; returns when it has ended. */
    async stop(signal = 'SIGTERM') {
        if (!this.running) {
            return;
        }
        const ended = new Promise((resolve) => this.#child.once('exit', resolve));
        this.#child.kill(signal);
        const patience = setTimeout(() => this.#child.kill('SIGKILL'), 10_000);
        await ended;
        clearTimeout(patience);
    }
}

function tail(file, lines = 15) {
    try {
        return readFileSync(file, 'utf8').split('\n').slice(-lines).join('\n');
    } catch {
        return '';
    }
}
