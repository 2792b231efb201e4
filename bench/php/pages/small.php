<?php

// A small page: a class, a template with escaping, one file read. No lock.

declare(strict_types=1);

final class Row
{
    public function __construct(public readonly int $id, public readonly string $title)
    {
    }

    public function html(): string
    {
        return sprintf('<tr><td>%d</td><td>%s</td></tr>', $this->id, htmlspecialchars($this->title));
    }
}

$rows = [];
for ($i = 0; $i < 50; $i++) {
    $rows[] = new Row($i, "Title <$i> & " . ucfirst(strrev("item $i")));
}
usort($rows, fn (Row $a, Row $b): int => $a->title <=> $b->title);
$size = strlen((string) file_get_contents(__FILE__));
echo "<table data-size=\"$size\">", implode('', array_map(fn (Row $row): string => $row->html(), $rows)), '</table>';
