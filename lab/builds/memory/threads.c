/*
 * Many PHP threads in one process: threads EXTENSION SCRIPT THREADS REQUESTS DSN PREFIX. Each thread serves requests,
 * one after the other, as a threaded web server's would. A request that fails ends the program with 1.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "sapi/embed/php_embed.h"

ZEND_TSRMLS_CACHE_DEFINE()

static const char *script;
static int requests;
static atomic_int failures;

static bool serve(void)
{
	zend_file_handle file;
	bool served;

	if (php_request_startup() != SUCCESS) {
		return false;
	}
	zend_stream_init_filename(&file, script);
	served = php_execute_script(&file) && EG(exit_status) == 0;
	zend_destroy_file_handle(&file);
	php_request_shutdown(NULL);
	return served;
}

static void *work(void *unused)
{
	(void) unused;
	ts_resource(0);
	ZEND_TSRMLS_CACHE_UPDATE();
	for (int i = 0; i < requests; i++) {
		if (!serve()) {
			failures++;
		}
	}
	ts_free_thread();
	return NULL;
}

int main(int argc, char **argv)
{
	static char ini[4096];
	pthread_t threads[64];
	int count;

	if (argc != 7 || (count = atoi(argv[3])) > 64) {
		fprintf(stderr, "usage: threads EXTENSION SCRIPT THREADS REQUESTS DSN PREFIX\n");
		return 2;
	}
	script = argv[2];
	requests = atoi(argv[4]);
	snprintf(ini, sizeof(ini),
		"extension=%s\ncluster_lock.dsn=%s\ncluster_lock.prefix=%s\ncluster_lock.command_timeout=30\n"
		"cluster_lock.connect_timeout=30\ndisplay_errors=stderr\nerror_reporting=-1\nhtml_errors=0\n",
		argv[1], argv[5], argv[6]);
	php_embed_module.ini_entries = ini;
	/* The program has a request of its own meanwhile, in its first thread. */
	if (php_embed_init(argc, argv) != SUCCESS) {
		return 2;
	}
	for (int i = 0; i < count; i++) {
		if (pthread_create(&threads[i], NULL, work, NULL) != 0) {
			return 2;
		}
	}
	for (int i = 0; i < count; i++) {
		pthread_join(threads[i], NULL);
	}
	php_embed_shutdown();
	printf("%d threads, %d requests each, %d failed\n", count, requests, (int) failures);
	return failures == 0 ? 0 : 1;
}
