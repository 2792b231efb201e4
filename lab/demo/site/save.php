<?php

/**
 * What runs when an administrator presses Save: POST /save?way=4-cluster-lock&page=17&colour=%23d1e4dd
 * sets the accent colour of one page and compiles the theme, in one of the five ways.
 */

declare(strict_types=1);

require __DIR__ . '/Theme.php';

$way = basename((string) ($_GET['way'] ?? ''));
$page = (string) ($_GET['page'] ?? '');
$colour = (string) ($_GET['colour'] ?? '');

header('Content-Type: application/json');
if (!is_file(__DIR__ . "/ways/$way.php") || !preg_match('/^\w+$/', $page) || !preg_match('/^#[0-9a-f]{6}$/', $colour)) {
    http_response_code(400);
    exit(json_encode(['error' => 'way, page and colour are needed']));
}

$save = require __DIR__ . "/ways/$way.php";
$theme = new Theme(
    explode(':', getenv('DEMO_THEME')),
    getenv('DEMO_PUBLISHED') . "/$way",
    (int) getenv('DEMO_EFFORT'),
    getenv('DEMO_COMPILES') . "/$way",
    (int) getenv('DEMO_LEAST_MS'),
);
$result = $save($theme, [
    '--global--color-background' => $colour,
    "--page-$page--accent" => $colour,
]);

http_response_code($result['stored'] ? 200 : 409);
echo json_encode($result + ['node' => getenv('DEMO_NODE')]);
