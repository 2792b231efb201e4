/**
 * A WordPress site on two nodes: Debian's wordpress, MariaDB, nginx, Redis and a php-fpm master for each node, which
 * share one wp-content. All of it lives in one temporary directory and ends with this process.
 */

import { randomBytes } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Holder } from './holder.mjs';
import { freePort, run, Server, which } from './processes.mjs';

const HERE = dirname(fileURLToPath(import.meta.url));
const ROOT = dirname(dirname(dirname(HERE)));
const WORDPRESS = '/usr/share/wordpress';
const WORKERS = 8;

/** What WordPress and Site Health ask for, in an order in which PHP can load it. */
const MODULES = [
    'opcache', 'mysqlnd', 'ctype', 'curl', 'dom', 'exif', 'fileinfo', 'gd', 'iconv', 'igbinary', 'imagick', 'intl',
    'mbstring', 'mysqli', 'posix', 'simplexml', 'sockets', 'tokenizer', 'xml', 'xmlreader', 'zip',
];

const secret = () => randomBytes(12).toString('hex');

/** What README lets a user of the locks do. */
function rightsOfReadme() {
    const line = readFileSync(join(ROOT, 'README.md'), 'utf8').match(/^ACL SETUSER cluster_lock on .* (-@all .*)$/m);
    if (!line) {
        throw new Error('README has no line "ACL SETUSER cluster_lock"');
    }
    return line[1];
}

export class Stand {
    /** Where everything is, and WordPress in it; from start() on. */
    dir = null;
    site = null;
    #servers = [];
    #stopped = false;
    #values;

    /** @param {(line: string) => void} say */
    constructor(say = () => {}) {
        this.say = say;
        this.passwords = { admin: secret(), subscriber: secret(), redis: secret() };
    }

    /** Starts everything; when that fails, what was started is stopped again, and the logs stay. */
    async start() {
        try {
            await this.#start();
        } catch (error) {
            if (this.#stopped) {
                throw new Error('the stand was stopped while it started', { cause: error });
            }
            await this.stop({ keepFiles: true });
            const logs = this.dir ? `\nLogs: ${this.dir}/log` : '';
            throw new Error(error.message + logs, { cause: error });
        }
    }

    /** The address of a node, or of "site": both nodes in turn. */
    url(node = 'site') {
        return `https://127.0.0.1:${this.#values[`PORT_${node.toUpperCase().replace('-', '_')}`]}`;
    }

    /** The certificate that the stand's servers show. */
    get certificate() {
        return readFileSync(join(this.dir, 'tls/site.crt'));
    }

    /** What the nodes' PHP has logged. */
    get phpLog() {
        return ['node-a', 'node-b', 'node-c']
            .map((node) => join(this.dir, `log/${node}-php.log`))
            .map((file) => (existsSync(file) ? readFileSync(file, 'utf8') : ''))
            .join('');
    }

    /** Asks the locks' server, as its administrator. */
    async redis(...words) {
        const env = { REDISCLI_AUTH: this.#values.REDIS_ADMIN_PASSWORD };
        return (await run(which('redis-cli'), ['-p', this.#values.PORT_REDIS, '-e', ...words], { env })).trimEnd();
    }

    async stopRedis() {
        await this.redisServer.stop();
    }

    async startRedis() {
        await this.redisServer.start(() => this.redis('PING'));
    }

    /** Runs PHP code with WordPress loaded, and returns what it prints. */
    async php(code) {
        return this.#runPhp(['-r', `require '${this.site}/wp-load.php'; ${code}`]);
    }

    /** Runs a PHP script of this checkout, on the command line of a node, and returns what it prints. */
    async script(path, args, { env = {}, input } = {}) {
        const copy = join(this.dir, 'tmp', basename(path));
        cpSync(path, copy);
        return this.#runPhp([copy, ...args], { env, input });
    }

    /** The locks as the extension lists them: name, mode, fence, holders, waiters … */
    async locks(prefix = '') {
        const code = 'echo json_encode(cluster_lock_list($argv[1]), JSON_INVALID_UTF8_SUBSTITUTE | JSON_THROW_ON_ERROR);';
        return JSON.parse(await this.#runPhp(['-r', code, '--', prefix]));
    }

    /** Takes locks in a process of its own, on a node that may be none of the web server's. */
    hold(names, options) {
        const command = [php(), ...this.#phpOptions([`cluster_lock.node=${options?.node ?? 'node-a'}`]), join(this.dir, 'hold.php')];
        return Holder.start(this, command, this.#scan(true), names, options);
    }

    /** What a crontab does on a site whose wp-config.php says DISABLE_WP_CRON. */
    async runScheduledEvents() {
        await this.#runPhp([join(this.site, 'wp-cron.php')]);
    }

    /**
     * Starts a php-fpm master, behind url(name).
     *
     * @param {string} name node-a, node-b or node-c
     * @param {{ini?: object, extension?: boolean}} options ini: settings other than those of conf/
     */
    async startNode(name, { ini = {}, extension = true, workers = WORKERS } = {}) {
        const conf = this.#write('php-fpm.conf', `${name}.conf`, { NODE: name, WORKERS: workers });
        const settings = Object.entries({ ...(extension ? { 'cluster_lock.node': name } : {}), ...ini });
        const node = new Server(
            `php-fpm of ${name}`,
            join(this.dir, `log/${name}.log`),
            [this.#fpm, '-F', '-y', conf, ...this.#phpOptions(settings.map(([key, value]) => `${key}=${value}`))],
            { env: this.#scan(extension) },
        );
        this.#add(node);
        await node.start(() => answers(join(this.dir, `run/${name}.sock`)));
        return node;
    }

    /** Stops everything, last started first, and removes the directory. */
    async stop({ keepFiles = false } = {}) {
        this.#stopped = true;
        for (const server of this.#servers.splice(0).reverse()) {
            await server.stop();
        }
        if (this.dir && !keepFiles) {
            rmSync(this.dir, { recursive: true, force: true, maxRetries: 3 });
        }
    }

    // ---- how it is made ------------------------------------------------------------------------------------------

    async #start() {
        // Nothing is left behind when one of these fails.
        const [moduleLines, so] = [await modules(), extension()];
        const ports = {};
        for (const name of ['SITE', 'NODE_A', 'NODE_B', 'NODE_C', 'REDIS']) {
            ports[`PORT_${name}`] = await freePort();
        }
        this.#refuseWhenStopped();
        this.dir = mkdtempSync(join(tmpdir(), 'cluster_lock-wordpress.'));
        this.site = join(this.dir, 'site');
        this.#values = {
            ...ports,
            DIR: this.dir,
            USER: process.getuid() === 0 ? 'user www-data;' : '',
            EXTENSION: join(this.dir, 'cluster_lock.so'),
            MODULES: moduleLines,
            SALT: secret() + secret(),
            DB_PASSWORD: secret(),
            REDIS_PASSWORD: this.passwords.redis,
            RIGHTS: rightsOfReadme(),
            REDIS_ADMIN_PASSWORD: secret(),
        };
        for (const directory of ['conf.d', 'log', 'run', 'tmp', 'tls', 'redis']) {
            mkdirSync(join(this.dir, directory));
        }
        // Copies, because the web server's user may have no business in this checkout.
        cpSync(so, this.#values.EXTENSION);
        for (const script of ['install.php', 'hold.php']) {
            cpSync(join(HERE, script), join(this.dir, script));
        }
        this.#copySite();
        await this.#certify();
        for (const file of ['nginx.conf', 'site.conf', 'php.ini', 'redis.conf']) {
            this.#write(file);
        }
        this.#write('cluster_lock.ini', 'conf.d/cluster_lock.ini');
        this.#write('wp-config.php', 'site/wp-config.php');
        if (process.getuid() === 0) {
            await run('chown', ['-R', 'www-data:www-data', this.dir]);
        }
        await run('chmod', ['700', this.dir]);

        this.redisServer = this.#server('redis-server', [which('redis-server'), join(this.dir, 'redis.conf')]);
        await this.startRedis();
        this.say(`redis-server     127.0.0.1:${this.#values.PORT_REDIS}, pid ${this.redisServer.pid}`);
        await this.#startDatabase();
        for (const name of ['node-a', 'node-b']) {
            const node = await this.startNode(name);
            this.say(`php-fpm          ${name}, ${WORKERS} workers, ${this.url(name)}, pid ${node.pid}`);
        }
        await this.#startWebServer();
        this.say(await this.#install());
    }

    /** A copy: WordPress finds its own files by their real path, and nothing outside the directory may be written. */
    #copySite() {
        const content = join(this.site, 'wp-content');
        for (const entry of readdirSync(WORDPRESS)) {
            if (!['wp-content', 'wp-config.php', '.htaccess'].includes(entry)) {
                cpSync(join(WORDPRESS, entry), join(this.site, entry), { recursive: true, dereference: true });
            }
        }
        // The stand's servers have a certificate of their own; WordPress is to trust it as it does any other.
        rmSync(join(this.site, 'wp-includes/certificates/ca-bundle.crt'));
        for (const directory of ['plugins', 'themes', 'uploads', 'mu-plugins']) {
            mkdirSync(join(content, directory), { recursive: true });
        }
        const theme = readdirSync(join(WORDPRESS, 'wp-content/themes')).filter((name) => name.startsWith('twentytwentyone'));
        if (theme.length === 0) {
            throw new Error('the theme Twenty Twenty-One is not there: run script/bootstrap wordpress');
        }
        const copy = { recursive: true, dereference: true };
        cpSync(join(WORDPRESS, 'wp-content/themes', theme[0]), join(content, 'themes', theme[0]), copy);
        cpSync(join(HERE, 'mu-plugins'), join(content, 'mu-plugins'), copy);
        for (const part of ['cluster-lock.php', 'cluster-lock'].filter((x) => existsSync(join(ROOT, 'packages/wordpress', x)))) {
            cpSync(join(ROOT, 'packages/wordpress', part), join(content, 'mu-plugins', part), copy);
        }
        cpSync(join(ROOT, 'lab/demo/site/Theme.php'), join(this.site, 'Theme.php'));
    }

    async #certify() {
        const [certificate, key] = [join(this.dir, 'tls/site.crt'), join(this.dir, 'tls/site.key')];
        await run('openssl', [
            'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2',
            '-subj', '/CN=cluster_lock stand', '-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', key, '-out', certificate,
        ]);
        cpSync(certificate, join(this.site, 'wp-includes/certificates/ca-bundle.crt'));
    }

    async #startDatabase() {
        const data = join(this.dir, 'mariadb');
        const socket = join(this.dir, 'run/mariadb.sock');
        await run(
            which('mariadb-install-db'),
            ['--no-defaults', `--datadir=${data}`, '--auth-root-authentication-method=normal', '--skip-test-db'],
            { webServer: true },
        );
        const database = this.#server('mariadb', [
            which('mariadbd'), '--no-defaults', `--datadir=${data}`, `--socket=${socket}`, '--skip-networking',
            `--pid-file=${this.dir}/run/mariadb.pid`, `--tmpdir=${this.dir}/tmp`, '--character-set-server=utf8mb4',
            '--innodb-buffer-pool-size=64M', '--innodb-flush-log-at-trx-commit=0',
        ]);
        const sql = (statements) =>
            run(which('mariadb'), ['--no-defaults', `--socket=${socket}`, '--user=root'], { input: statements });
        await database.start(() => sql('SELECT 1;'));
        await sql(`CREATE DATABASE wordpress;
            CREATE USER wordpress@localhost IDENTIFIED BY '${this.#values.DB_PASSWORD}';
            GRANT ALL ON wordpress.* TO wordpress@localhost;`);
        this.say(`mariadbd         ${socket}, pid ${database.pid}`);
    }

    async #startWebServer() {
        // As root: it drops that itself, and needs it to open its log.
        const command = [which('nginx'), '-p', this.dir, '-c', join(this.dir, 'nginx.conf'), '-e', join(this.dir, 'log/nginx.log')];
        const nginx = this.#server('nginx', command, { webServer: false });
        await nginx.start(() => answers(Number(this.#values.PORT_SITE)));
        this.say(`nginx            ${this.url()}, requests go to both nodes in turn, pid ${nginx.pid}`);
    }

    async #install() {
        const input = JSON.stringify(this.passwords);
        const output = await this.#runPhp([join(this.dir, 'install.php'), this.site], { extension: false, input });
        await this.runScheduledEvents();
        return output.trim();
    }

    #runPhp(args, { extension = true, env = {}, input } = {}) {
        const environment = { ...this.#scan(extension), ...env };
        return run(php(), [...this.#phpOptions([]), ...args], { webServer: true, env: environment, input });
    }

    #server(name, command, options) {
        const server = new Server(name, join(this.dir, `log/${name}.log`), command, options);
        return this.#add(server);
    }

    #add(server) {
        this.#refuseWhenStopped();
        this.#servers.push(server);
        return server;
    }

    #refuseWhenStopped() {
        if (this.#stopped) {
            throw new Error('the stand has been stopped');
        }
    }

    /** Copies a file of conf/ with its @NAMES@ filled in; returns where it is now. */
    #write(template, target = template, more = {}) {
        const values = { ...this.#values, ...more };
        const text = readFileSync(join(HERE, 'conf', template), 'utf8').replace(/@([A-Z_]+)@/g, (name, key) => values[key] ?? name);
        const path = join(this.dir, target);
        writeFileSync(path, text, { mode: 0o644 });
        return path;
    }

    get #fpm() {
        return process.env.PHP_FPM || which(`php-fpm${process.env.PHP_MINOR ?? ''}`, 'php-fpm8.2');
    }

    #phpOptions(settings) {
        return ['-c', join(this.dir, 'php.ini'), ...settings.flatMap((setting) => ['-d', setting])];
    }

    /** Only the stand's own conf.d, whatever this machine has in its; or none at all, for a node without the extension. */
    #scan(extension) {
        return { PHP_INI_SCAN_DIR: extension ? join(this.dir, 'conf.d') : '' };
    }
}

const php = () => process.env.PHP || which('php');

/** The built extension. */
function extension() {
    const path = process.env.CLUSTER_LOCK_SO || join(ROOT, 'target/modules/cluster_lock.so');
    if (!existsSync(path)) {
        throw new Error(`${path} is not there: run script/build`);
    }
    return path;
}

/** The lines of php.ini that load what of MODULES is not built in. */
async function modules() {
    const directory = (await run(process.env.PHP_CONFIG || which('php-config'), ['--extension-dir'])).trim();
    return MODULES.filter((name) => existsSync(join(directory, `${name}.so`)))
        .map((name) => (name === 'opcache' ? 'zend_extension=opcache' : `extension=${name}`))
        .join('\n');
}

/** Resolves when somebody listens there. */
function answers(address) {
    return new Promise((resolve, reject) => {
        const socket = typeof address === 'number' ? connect(address, '127.0.0.1') : connect(address);
        socket.once('connect', () => (socket.destroy(), resolve()));
        socket.once('error', reject);
    });
}
