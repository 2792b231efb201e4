/* _dl_find_object(), as Debian's libgcc_eh asks glibc for it, for musl: where the tables are by which the code at pc is
   unwound. Linked into what script/matrix builds for musl; a libgcc that was built for musl does not ask. */
#define _GNU_SOURCE
#include <link.h>
#include <stddef.h>
#include <stdint.h>

struct dl_find_object {
	unsigned long long flags;
	void *map_start, *map_end;
	struct link_map *link_map;
	void *eh_frame;
	unsigned long long reserved[7];
};

struct search {
	uintptr_t pc;
	struct dl_find_object *found;
};

static int look(struct dl_phdr_info *object, size_t size, void *data)
{
	struct search *search = data;
	uintptr_t start = 0, end = 0, tables = 0;

	(void)size;
	for (int i = 0; i < object->dlpi_phnum; i++) {
		const ElfW(Phdr) *part = &object->dlpi_phdr[i];
		uintptr_t at = object->dlpi_addr + part->p_vaddr;

		if (part->p_type == PT_LOAD && at <= search->pc && search->pc < at + part->p_memsz) {
			start = at;
			end = at + part->p_memsz;
		} else if (part->p_type == PT_GNU_EH_FRAME) {
			tables = at;
		}
	}
	if (!end || !tables)
		return 0;
	search->found->flags = 0;
	search->found->map_start = (void *)start;
	search->found->map_end = (void *)end;
	search->found->link_map = NULL;
	search->found->eh_frame = (void *)tables;
	return 1;
}

__attribute__((visibility("hidden"))) int _dl_find_object(void *pc, struct dl_find_object *found)
{
	struct search search = { (uintptr_t)pc, found };

	return dl_iterate_phdr(look, &search) == 1 ? 0 : -1;
}
