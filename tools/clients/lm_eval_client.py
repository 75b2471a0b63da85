"""Has lm-evaluation-harness score a model of pumice serve, and compares with pumice eval: URL MODEL DATA RESULTS.

RESULTS is the --output-path of pumice eval --log-samples, whose questions are read from DATA. The tasks are the harness's own,
with their prompts, but read these files. Prompts have to be equal, and the log-likelihood of each choice but for rounding,
whichever way the harness sends its requests.
"""

import csv
import glob
import json
import logging
import math
import os
import pathlib
import sys
import tempfile

url, model, data, results = sys.argv[1:]
scratch = tempfile.TemporaryDirectory()
work = pathlib.Path(scratch.name)
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(work / "hf"), "HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "TQDM_DISABLE": "1"}
logging.disable(logging.WARNING)

import lm_eval
from lm_eval.api.instance import Instance
from lm_eval.models.openai_completions import LocalCompletionsAPI
from lm_eval.tasks import TaskManager

SHOTS = 2


def rows(file, columns=None):
    with open(os.path.join(data, file), encoding="utf-8", newline="") as f:
        return list(csv.DictReader(f, columns))


def mmlu(file):
    return [{"question": r["question"], "choices": [r[c] for c in "ABCD"], "answer": "ABCD".index(r["answer"])}
            for r in rows(file, ["question", *"ABCD", "answer"])]


def task(yaml, splits):
    """Writes a task of the harness that reads local questions, and returns its file."""
    files = {split: str(work / f"{pathlib.Path(yaml).stem}_{split}.json") for split in splits}
    for split, questions in splits.items():
        pathlib.Path(files[split]).write_text(json.dumps(questions))
    changed = {"include": str(pathlib.Path(lm_eval.__file__).parent / "tasks" / yaml), "dataset_path": "json", "dataset_name": None,
               "dataset_kwargs": {"data_files": files}}
    file = work / pathlib.Path(yaml).name
    file.write_text(json.dumps(changed))  # YAML too
    return str(file)


tasks = [task(f"mmlu/default/mmlu_{s}.yaml", {split: mmlu(f"mmlu/data/{split}/{s}_{split}.csv") for split in ("dev", "test")})
         for s in ("computer_security", "high_school_geography")]
tasks.append(task("ceval/ceval-valid_high_school_geography.yaml",
                  {split: rows(f"ceval/{split}/high_school_geography_{split}.csv") for split in ("dev", "val")}))
ours = {}
for file in glob.glob(os.path.join(results, "samples_*.jsonl")):
    for sample in map(json.loads, pathlib.Path(file).read_text(encoding="utf-8").splitlines()):
        ours[sample["task"].replace("ceval_", "ceval-valid_"), sample["doc_id"]] = sample
manager = TaskManager(include_defaults=False)
server = {"base_url": url + "/v1/completions", "model": model, "tokenizer_backend": "remote", "max_retries": 1}


def compare(questions, limit, batch_size=1, **how):
    """Evaluates the first questions of each task, and returns the greatest difference of log-likelihoods."""
    theirs = lm_eval.simple_evaluate("local-completions", server | how, tasks=tasks, num_fewshot=SHOTS, batch_size=batch_size, limit=limit,
                                     log_samples=True, bootstrap_iters=0, task_manager=manager)["samples"]
    worst, seen = 0.0, 0
    for name, samples in theirs.items():
        for sample in samples:
            our = ours[name, sample["doc_id"]]
            prompts = [[a["arg_0"], a["arg_1"]] for a in our["arguments"].values()]
            assert [list(a) for a in sample["arguments"]] == prompts, (sample["arguments"], prompts)
            assert sample["acc"] == our["acc"], (sample, our)
            for (a, greedy), (b, our_greedy) in zip(sample["filtered_resps"], our["filtered_resps"], strict=True):
                worst = max(worst, abs(float(a) - float(b)))
                assert str(greedy) == our_greedy, (sample["filtered_resps"], our["filtered_resps"])
            seen += 1
    assert seen == questions, f"{seen} questions, want {questions}"
    assert worst < 1e-4, f"{how}: log-likelihoods differ by {worst}"
    return worst


worst = max(
    compare(11, None),
    compare(6, 2, batch_size=4),
    compare(6, 2, num_concurrent=4),
    compare(6, 2, tokenized_requests=False),
    compare(6, 2, tokenized_requests=False, batch_size=3, num_concurrent=4),
)

# What the model writes is greedy, of several tokens, and a whole text's likelihood is that after BOS.
api = LocalCompletionsAPI(**server)


def ask(kind, *arguments):
    return getattr(api, kind)([Instance(kind, {}, arguments, 0)])[0]


context = "The capital of France is"
written = ask("generate_until", context, {"until": ["."], "max_gen_toks": 16})
assert "Paris" in written and "." not in written, written
likelihood, greedy = ask("loglikelihood", context, written)
assert greedy and likelihood < 0, (written, likelihood, greedy)
other, greedy = ask("loglikelihood", context, " made of green cheese")
assert not greedy and other < likelihood - 5, (other, greedy)
rolling = ask("loglikelihood_rolling", context + written)
after_bos, _ = ask("loglikelihood", api.tokenizer.bos_token, context + written)
assert math.isclose(rolling, after_bos, abs_tol=1e-4), (rolling, after_bos)
print(f"lm-eval {lm_eval.__version__}: log-likelihoods differ by at most {worst:.6f}, 0.00005 of which is rounding")
