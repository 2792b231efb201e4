<?php

declare(strict_types=1);

/**
 * A small theme compiler: stylesheet of a real theme + the site's options = one compiled file for the browsers.
 *
 * It works as the compilers of theme builders do: options live in a file of their own, a save changes one of them
 * and compiles the whole stylesheet anew. How the two files are written safely, or not, is up to the caller.
 */
final class Theme
{
    public readonly string $stylesheet;
    public readonly string $optionsFile;

    /**
     * @param list<string> $sources the theme's stylesheets
     * @param int $effort how many times each compile does its work, so that it takes as long as a builder's
     * @param string|null $counter a file that gets a byte for each compile, whatever becomes of it
     * @param int $leastMs milliseconds that each compile takes at least, however small its effort: where one CPU plays several
     *     nodes, they do not wait for each other's compiles
     */
    public function __construct(
        private readonly array $sources,
        string $publishedDir,
        private readonly int $effort = 1,
        private readonly ?string $counter = null,
        private readonly int $leastMs = 0,
    ) {
        $this->stylesheet = $publishedDir . '/style.css';
        $this->optionsFile = $publishedDir . '/options.json';
    }

    /**
     * The files that the published stylesheet is made from.
     *
     * @return list<string>
     */
    public function madeFrom(): array
    {
        return [$this->optionsFile, ...$this->sources];
    }

    /**
     * The options as they are on disk now, as CSS custom property => value. No file, or one that makes no sense,
     * means no options: theme plugins start from their defaults then, too.
     *
     * @return array<string, string>
     */
    public function options(): array
    {
        $json = @file_get_contents($this->optionsFile);
        $options = $json === false ? null : json_decode($json, true);

        return is_array($options) ? $options : [];
    }

    /** How often the published stylesheet was compiled; 0 when there is none or its end is missing. */
    public function version(): int
    {
        $css = @file_get_contents($this->stylesheet);

        return $css !== false && preg_match('~/\* end version=(\d+) [^*]*\*/\n$~', $css, $end) ? (int) $end[1] : 0;
    }

    /**
     * Sets the options in the theme's stylesheets and strips what browsers do not need. The last line tells readers
     * that nothing is missing: version, length and checksum of all that stands before it.
     *
     * @param array<string, string> $options
     */
    public function compile(array $options, int $version): string
    {
        if ($this->counter !== null) {
            file_put_contents($this->counter, '.', FILE_APPEND);
        }
        $start = hrtime(true);
        $done = 0;
        do {
            $css = $this->rules($options);
        } while (++$done < $this->effort);
        usleep(max(0, $this->leastMs * 1000 - intdiv(hrtime(true) - $start, 1000)));

        $end = sprintf('version=%d bytes=%d sha256=%s', $version, strlen($css), hash('sha256', $css));

        return "$css/* end $end */\n";
    }

    /**
     * All that a browser needs.
     *
     * @param array<string, string> $options
     */
    private function rules(array $options): string
    {
        $css = '';
        foreach ($this->sources as $file) {
            $css .= file_get_contents($file) . "\n";
        }

        $unknown = $options;
        $css = preg_replace_callback(
            '/^(\s*)(--[\w-]+):[^;{}]*;/m',
            static function (array $declaration) use ($options, &$unknown): string {
                [$text, $indent, $property] = $declaration;
                unset($unknown[$property]);

                return isset($options[$property]) ? "$indent$property: $options[$property];" : $text;
            },
            $css
        );
        $css = preg_replace(['~/\*(?!!).*?\*/~s', '~\s+~', '~ ?([{};,>]) ?~'], ['', ' ', '$1'], $css);

        // Options that the theme does not know itself: the pages' own accents.
        $css .= "\n:root{\n";
        foreach ($unknown as $property => $value) {
            $css .= "$property:$value;\n";
        }

        return "$css}\n";
    }
}
