/*
 * Many PHP threads in one process: threads INI SCRIPT THREADS REQUESTS. Each thread serves requests,
 * one after the other, as a threaded web server's would. A request that fails ends the program with 1.
 */
#define _GNU_SOURCE
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
	/* What it returns is false after exit(0), too. */
	php_execute_script(&file);
	served = EG(exit_status) == 0;
	if (!served) {
		fprintf(stderr, "exit status %d\n", EG(exit_status));
	}
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
	pthread_t threads[64];
	int count;

	if (argc != 5 || (count = atoi(argv[3])) > 64) {
		fprintf(stderr, "usage: threads INI SCRIPT THREADS REQUESTS\n");
		return 2;
	}
	script = argv[2];
	requests = atoi(argv[4]);
	php_embed_module.php_ini_path_override = argv[1];
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
