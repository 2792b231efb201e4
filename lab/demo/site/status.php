<?php

/**
 * What the extension tells about itself in this worker, who holds and awaits which lock in the cluster, and how often
 * this node has compiled in one of the ways.
 */

declare(strict_types=1);

header('Content-Type: application/json');
echo json_encode([
    'node' => getenv('DEMO_NODE'),
    'pid' => getmypid(),
    'status' => isset($_GET['status']) ? cluster_lock_status() : null,
    'compiles' => isset($_GET['compiles']) ? (int) @filesize(getenv('DEMO_COMPILES') . '/' . basename($_GET['compiles'])) : null,
    'locks' => isset($_GET['locks']) ? cluster_lock_list() : null,
], JSON_INVALID_UTF8_SUBSTITUTE);
