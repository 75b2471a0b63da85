package bench

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// llamaBenchFields are the columns of llama-bench's table and their types (llama.cpp b10434, tools/llama-bench, get_fields and
// get_sql_field_type).
var llamaBenchFields = [][2]string{
	{"build_commit", "TEXT"}, {"build_number", "INTEGER"}, {"cpu_info", "TEXT"}, {"gpu_info", "TEXT"}, {"backends", "TEXT"},
	{"model_filename", "TEXT"}, {"model_type", "TEXT"}, {"model_size", "INTEGER"}, {"model_n_params", "INTEGER"}, {"n_batch", "INTEGER"},
	{"n_ubatch", "INTEGER"}, {"n_threads", "INTEGER"}, {"cpu_mask", "TEXT"}, {"cpu_strict", "INTEGER"}, {"poll", "INTEGER"},
	{"type_k", "TEXT"}, {"type_v", "TEXT"}, {"n_gpu_layers", "INTEGER"}, {"n_cpu_moe", "INTEGER"}, {"split_mode", "TEXT"},
	{"main_gpu", "INTEGER"}, {"no_kv_offload", "INTEGER"}, {"flash_attn", "INTEGER"}, {"devices", "TEXT"}, {"tensor_split", "TEXT"},
	{"tensor_buft_overrides", "TEXT"}, {"load_mode", "TEXT"}, {"embeddings", "INTEGER"}, {"no_op_offload", "INTEGER"},
	{"no_host", "INTEGER"}, {"fit_target", "INTEGER"}, {"fit_min_ctx", "INTEGER"}, {"n_prompt", "INTEGER"}, {"n_gen", "INTEGER"},
	{"n_depth", "INTEGER"}, {"test_time", "TEXT"}, {"avg_ns", "INTEGER"}, {"stddev_ns", "INTEGER"}, {"avg_ts", "REAL"}, {"stddev_ts", "REAL"},
}

// SQLHead begins a script for SQLite: llama-bench's table, as llama-bench makes it, and pumice_bench, which has a row's JSON too.
// Only rows of Result are in the first.
func SQLHead() string {
	var columns []string
	for _, f := range llamaBenchFields {
		columns = append(columns, "  "+f[0]+" "+f[1])
	}
	return "CREATE TABLE IF NOT EXISTS llama_bench (\n" + strings.Join(columns, ",\n") + "\n);\n\n" +
		"CREATE TABLE IF NOT EXISTS pumice_bench (\n  test_time TEXT,\n  model_type TEXT,\n  test TEXT,\n  struck INTEGER,\n  row TEXT\n);\n\n"
}

// SQLRow is a result as rows of SQLHead's tables.
func SQLRow[R Row](r R) (string, error) {
	values := map[string]string{}
	scalars(reflect.ValueOf(r), func(name, value string) { values[name] = value })
	text, test := "", ""
	switch r := any(r).(type) {
	case Result:
		test = r.Test().Name()
		var names, list []string
		for _, f := range llamaBenchFields {
			names, list = append(names, f[0]), append(list, literal(values[f[0]]))
		}
		text = fmt.Sprintf("INSERT INTO llama_bench (%s) VALUES (%s);\n", strings.Join(names, ", "), strings.Join(list, ", "))
	case ParallelResult:
		test = r.Name()
	case LoadResult:
		test = r.Name()
	}
	row, err := json.Marshal(r)
	if err != nil {
		return "", fmt.Errorf("bench: %w", err)
	}
	return text + fmt.Sprintf("INSERT INTO pumice_bench (test_time, model_type, test, struck, row) VALUES (%s, %s, %s, %s, %s);\n",
		literal(values["test_time"]), literal(values["model_type"]), literal(test), literal(values["struck"]), literal(string(row))), nil
}

// literal is a value as SQLite reads it, which makes numbers of texts where the column wants them. Booleans are 0 and 1.
func literal(value string) string {
	switch value {
	case "true":
		return "'1'"
	case "false":
		return "'0'"
	}
	return "'" + strings.ReplaceAll(value, "'", "''") + "'"
}

// setupValues calls f for each value of a setup, by its name in JSON.
func setupValues(s Setup, f func(name, value string)) { scalars(reflect.ValueOf(s), f) }
