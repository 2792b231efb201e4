<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\File;

use ClusterLock\Polyfill\Failure;
use ClusterLock\Polyfill\Quiet;

/**
 * What a file keeps when it is replaced: mode, owner and group, where permitted. PHP knows neither ACLs nor extended
 * attributes: those are lost. What cannot be kept is lost safely, that is, nobody gets a right that the mode of the
 * old file did not give.
 */
final class Metadata
{
    /**
     * @param array<string, int> $old
     * @param resource           $file the new one, private until its group is right
     *
     * @throws Failure
     */
    public static function apply(array $old, $file, string $path, Target $target): void
    {
        $new = fstat($file);
        $groupKept = $old['gid'] === $new['gid'] || Quiet::try(static fn () => chgrp($path, $old['gid']));
        $permissions = $old['mode'] & 0777;
        if (!$groupKept) {
            // The new group's members were "others" before, and the old group's members are "others" now.
            $common = $permissions >> 3 & $permissions & 7;
            $permissions = ($permissions & 0700) | $common << 3 | $common;
        }
        [$changed, $why] = Quiet::call(static fn (): bool => chmod($path, $permissions));
        if (!$changed) {
            throw $target->failed('cannot keep the mode', $why);
        }
        $ownerKept = $old['uid'] === $new['uid'] || Quiet::try(static fn () => chown($path, $old['uid']));
        // Last, because a change of owner clears them.
        $special = $old['mode'] & ($groupKept ? 07000 : 05000);
        if ($ownerKept && $special !== 0) {
            Quiet::try(static fn () => chmod($path, $permissions | $special));
            // The kernel takes them away again from those from whom writing into the file takes them.
            ftruncate($file, fstat($file)['size']);
        }
    }
}
