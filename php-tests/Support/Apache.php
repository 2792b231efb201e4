<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Support;

/**
 * An Apache of the test's own, with PHP in its processes: mod_php in the prefork MPM.
 */
final class Apache extends WebServer
{
    /**
     * @param array<string, array<string, string|int|float>> $hosts    virtual hosts, and what php.ini is to be for each
     * @param array<string, string|int|float>                $settings php.ini
     * @param array<string, string|int>                      $more     httpd.conf
     */
    public function __construct(array $hosts, array $settings = [], array $more = [])
    {
        parent::__construct();
        $settings += ['display_errors' => 1, 'auto_prepend_file' => "{$this->dir}/prelude.php"];
        file_put_contents("{$this->dir}/php.ini", Php::ini($settings));
        file_put_contents("{$this->dir}/httpd.conf", $this->configuration($hosts, $more));
        copy(dirname(__DIR__) . '/fixtures/prelude.php', "{$this->dir}/prelude.php");
        // Its children are another user, who must be able to come here.
        chmod($this->dir, 0755);
        $program = Sapis::apache();
        $this->start(new ServerProcess(
            [$program, '-D', 'FOREGROUND', '-d', $this->dir, '-f', "{$this->dir}/httpd.conf"],
            Sapis::environment($program)
        ));
    }

    /** Children finish what they are at, and others take their place, with a PHP that has started anew. */
    public function restartGracefully(): void
    {
        $this->signal(SIGUSR1);
    }

    public function log(): string
    {
        return @file_get_contents("{$this->dir}/error.log") . parent::log();
    }

    /**
     * @param array<string, array<string, string|int|float>> $hosts
     * @param array<string, string|int>                      $more
     */
    private function configuration(array $hosts, array $more): string
    {
        $modules = Sapis::apacheModules();
        $lines = [
            "LoadModule mpm_prefork_module \"$modules/mod_mpm_prefork.so\"",
            "LoadModule authz_core_module \"$modules/mod_authz_core.so\"",
            'LoadModule php_module "' . Sapis::apacheModule() . '"',
            "PHPIniDir \"{$this->dir}\"",
            "DefaultRuntimeDir \"{$this->dir}\"",
            "Mutex \"file:{$this->dir}\"",
            "PidFile \"{$this->dir}/httpd.pid\"",
            "ErrorLog \"{$this->dir}/error.log\"",
            'LogLevel notice',
            "Listen 127.0.0.1:{$this->port}",
            'ServerName localhost',
            "DocumentRoot \"{$this->dir}\"",
            'SetHandler application/x-httpd-php',
            // As root it wants somebody else for its children.
            ...posix_geteuid() === 0 ? ['User #65534', 'Group #65534'] : [],
        ];
        $more += ['StartServers' => 3, 'MinSpareServers' => 1, 'MaxSpareServers' => 8, 'MaxRequestWorkers' => 8];
        foreach ($more as $name => $value) {
            $lines[] = "$name $value";
        }
        foreach ($hosts as $name => $settings) {
            $lines[] = "<VirtualHost 127.0.0.1:{$this->port}>";
            $lines[] = "ServerName $name";
            foreach ($settings as $setting => $value) {
                $lines[] = "php_admin_value $setting \"$value\"";
            }
            $lines[] = '</VirtualHost>';
        }

        return implode("\n", $lines) . "\n";
    }
}
