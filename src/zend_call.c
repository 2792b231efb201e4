/*
 * Which PHP code asks for a lock: function, file and line, copied by Rust while it is shown. What runs is only looked at: no
 * code of the user's runs, and nothing is allocated.
 */
#include "zend_glue.h"

#include "zend_exceptions.h"

/* So many calls are looked through at most: those of a framework's layers, and PHP's own between them. */
#define MOST 64

/* As zend_get_executed_lineno() has it, for any function that runs, and not the innermost alone. */
static uint32_t line_of(const zend_execute_data *frame)
{
	const zend_op *opline = frame->opline;

	if (!opline) {
		/* It has not begun. */
		return frame->func->op_array.opcodes[0].lineno;
	}
	if (opline->opcode == ZEND_HANDLE_EXCEPTION && EG(opline_before_exception)) {
		return EG(opline_before_exception)->lineno;
	}
	return opline->lineno;
}

void clk_tell_call(void)
{
	const zend_execute_data *frame = EG(current_execute_data);

	if (!clk_call_begin()) {
		return;
	}
	for (int looked_at = 0; frame && looked_at < MOST; looked_at++, frame = frame->prev_execute_data) {
		if (!frame->func || !ZEND_USER_CODE(frame->func->type)) {
			continue;
		}
		const zend_op_array *code = &frame->func->op_array;
		/* An included file is code of PHP's scope that has included it, and no method. */
		const zend_class_entry *scope = code->function_name ? code->scope : NULL;
		clk_bytes none = clk_bytes_of("", 0);
		if (clk_call_frame(scope ? clk_bytes_of_str(scope->name) : none,
				code->function_name ? clk_bytes_of_str(code->function_name) : none,
				code->filename ? clk_bytes_of_str(code->filename) : none, line_of(frame))) {
			return;
		}
	}
}
