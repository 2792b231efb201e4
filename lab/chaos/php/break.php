<?php

// An administrator: php break.php NAME

declare(strict_types=1);

echo json_encode(cluster_lock_break($argv[1]));
