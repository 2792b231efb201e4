<?php

// One who changes sources, or one who builds, in competition with others on both nodes.
//
// A source has twelve digits, the number of the change that has put them there, so that all are of one size. Whatever changes it
// brings a modification time of long ago along, if it can.

declare(strict_types=1);

require __DIR__ . '/lab.php';

const PAST = 1_000_000_000;

/** Changes its own sources, and tells of each change when it began and when it was done. */
final class Changer
{
    private int $number = 0;

    /** @param list<string> $sources files, of which the last lies behind a link to a directory */
    public function __construct(private readonly string $dir, private readonly string $node, private readonly array $sources)
    {
        foreach (array_slice($this->sources, 0, -1) as $source) {
            $this->fill("$this->dir/$source");
        }
        $this->turn($this->sources[count($this->sources) - 1]);
    }

    /** @return array<string, mixed> */
    public function change(): array
    {
        $name = $this->sources[mt_rand(0, count($this->sources) - 1)];
        $path = "$this->dir/$name";
        $kinds = ['write', 'touch', 'mv', 'rsync', 'link', 'delete'];
        $kind = $name === $this->sources[count($this->sources) - 1] ? 'turn' : $kinds[mt_rand(0, count($kinds) - 1)];
        $done = match ($kind) {
            // In place, also through a link.
            'write' => fn () => $this->fill($path),
            'touch' => fn () => $this->fill($path) && touch($path, PAST),
            'mv' => $this->over($this->spare("$this->dir/other"), $path),
            'rsync' => $this->over($this->spare("$this->dir/from"), $path),
            'link' => $this->over($this->linkTo($this->spare("$this->dir/other")), $path),
            'delete' => fn () => unlink($path),
            'turn' => fn () => $this->turn($name),
        };
        if ($kind === 'delete' && !is_file($path)) {
            return $this->change();
        }
        $began = hrtime(true);
        if (!$done()) {
            throw new RuntimeException("$kind $path failed");
        }
        return ['source' => $name, 'kind' => $kind, 'began' => $began, 'done' => hrtime(true),
            'has' => $kind === 'delete' ? null : $this->number];
    }

    private function fill(string $path): bool
    {
        return file_put_contents($path, sprintf('%012d', ++$this->number)) !== false;
    }

    /** A file beside the sources, as old as its content may be. */
    private function spare(string $dir): string
    {
        $spare = "$dir/.$this->node-" . ($this->number + 1);
        $this->fill($spare);
        touch($spare, PAST);
        return $spare;
    }

    /** For a directory beside that of the file: the nodes mount the export in different places. */
    private function linkTo(string $file): string
    {
        symlink('../other/' . basename($file), "$file.link");
        return "$file.link";
    }

    private function over(string $spare, string $path): Closure
    {
        return fn () => rename($spare, $path);
    }

    /** Another directory behind the link on the way to a source. */
    private function turn(string $source): bool
    {
        $link = "$this->dir/" . dirname($source);
        $release = "$this->dir/other/$this->node-" . ($this->number + 1);
        mkdir($release);
        $file = "$release/" . basename($source);
        $this->fill($file);
        touch($file, PAST);
        symlink('../other/' . basename($release), "$link.new");
        return rename("$link.new", $link);
    }
}

/** What the sources have; null where there is none. */
function contents(string $dir, array $sources): array
{
    $found = [];
    foreach ($sources as $source) {
        // Gone between two looks: as good as missing.
        $found[$source] = @file_get_contents("$dir/$source");
    }
    return array_map(static fn ($text) => $text === false ? null : $text, $found);
}

/** As themes do it: compiled again when a source is dated later than the stylesheet. */
function build_by_mtime(string $target, callable $build, array $sources): bool
{
    clearstatcache();
    $latest = max(array_map(static fn (string $source) => @filemtime($source), $sources));
    if ($latest > (int) @filemtime($target)) {
        // Whole, so that this is not what is found out.
        file_put_contents("$target." . getmypid() . gethostname(), $build());
        rename("$target." . getmypid() . gethostname(), $target);
    }
    return true;
}

['dir' => $dir, 'node' => $node, 'role' => $role, 'sources' => $sources] = $given = parameters();
mt_srand($given['seed']);

// @ is used above, where a source may be missing.
$strict = set_error_handler(null);
set_error_handler(static fn (int $severity, ...$more) => error_reporting() & $severity ? $strict($severity, ...$more) : true);

if ($role === 'changer') {
    $changer = new Changer($dir, $node, $sources);
    say(['ready' => true]);
    await();
    $changes = [];
    while (count($changes) < $given['changes']) {
        // Some at once, and then a rest, in which what is made comes to be fresh.
        for ($burst = mt_rand(1, 5); $burst > 0 && count($changes) < $given['changes']; $burst--) {
            $changes[] = $changer->change();
            usleep(mt_rand(0, 15_000));
        }
        usleep(mt_rand(0, 80_000));
    }
    say(['changes' => $changes]);
    exit;
}

$target = "$dir/made/css";
$paths = array_map(static fn (string $source) => "$dir/$source", $sources);
$build = static function () use ($dir, $sources, &$built): string {
    $built = hrtime(true);
    $half = intdiv(count($sources), 2);
    $made = contents($dir, array_slice($sources, 0, $half));
    usleep(mt_rand(0, 15_000));
    return json_encode($made + contents($dir, array_slice($sources, $half)), JSON_THROW_ON_ERROR);
};
say(['ready' => true]);
await();
stream_set_blocking(STDIN, false);
$calls = [];
do {
    // The last call begins after the last change.
    $last = fgets(STDIN) !== false;
    $built = null;
    $began = hrtime(true);
    $done = $given['variant'] === 'none' ? build_by_mtime($target, $build, $paths) : cluster_file_build($target, $build, $paths);
    if (!$done) {
        throw new RuntimeException('it was not built');
    }
    $has = json_decode((string) @file_get_contents($target), true);
    $calls[] = ['began' => $began, 'built' => $built, 'done' => hrtime(true), 'has' => $has];
    usleep(mt_rand(0, 5_000));
} while (!$last);
say(['calls' => $calls]);
