package eval

// This file has tables of the tasks, their groups, and the mean that is each group's headline.

// An Info describes a task. Key is the part of its files' names that differs from task to task.
type Info struct {
	Name, Benchmark, Key string
}

var mmluCategories = []struct {
	group, title string
	subjects     []string
}{ // categories.py of hendrycks/test
	{"mmlu_stem", "STEM", []string{
		"abstract_algebra", "astronomy", "college_biology", "college_chemistry", "college_computer_science", "college_mathematics",
		"college_physics", "computer_security", "conceptual_physics", "electrical_engineering", "elementary_mathematics",
		"high_school_biology", "high_school_chemistry", "high_school_computer_science", "high_school_mathematics",
		"high_school_physics", "high_school_statistics", "machine_learning",
	}},
	{"mmlu_social_sciences", "Social Science", []string{
		"econometrics", "high_school_geography", "high_school_government_and_politics", "high_school_macroeconomics",
		"high_school_microeconomics", "high_school_psychology", "human_sexuality", "professional_psychology", "public_relations",
		"security_studies", "sociology", "us_foreign_policy",
	}},
	{"mmlu_humanities", "Humanities", []string{
		"formal_logic", "high_school_european_history", "high_school_us_history", "high_school_world_history", "international_law",
		"jurisprudence", "logical_fallacies", "moral_disputes", "moral_scenarios", "philosophy", "prehistory", "professional_law",
		"world_religions",
	}},
	{"mmlu_other", "Others", []string{
		"anatomy", "business_ethics", "clinical_knowledge", "college_medicine", "global_facts", "human_aging", "management",
		"marketing", "medical_genetics", "miscellaneous", "nutrition", "professional_accounting", "professional_medicine", "virology",
	}},
}

// cevalSubjects are C-Eval's subjects with their Chinese names and categories (subject_mapping.json of hkust-nlp/ceval).
var cevalSubjects = []struct{ key, name, category string }{
	{"computer_network", "计算机网络", "STEM"},
	{"operating_system", "操作系统", "STEM"},
	{"computer_architecture", "计算机组成", "STEM"},
	{"college_programming", "大学编程", "STEM"},
	{"college_physics", "大学物理", "STEM"},
	{"college_chemistry", "大学化学", "STEM"},
	{"advanced_mathematics", "高等数学", "STEM"},
	{"probability_and_statistics", "概率统计", "STEM"},
	{"discrete_mathematics", "离散数学", "STEM"},
	{"electrical_engineer", "注册电气工程师", "STEM"},
	{"metrology_engineer", "注册计量师", "STEM"},
	{"high_school_mathematics", "高中数学", "STEM"},
	{"high_school_physics", "高中物理", "STEM"},
	{"high_school_chemistry", "高中化学", "STEM"},
	{"high_school_biology", "高中生物", "STEM"},
	{"middle_school_mathematics", "初中数学", "STEM"},
	{"middle_school_biology", "初中生物", "STEM"},
	{"middle_school_physics", "初中物理", "STEM"},
	{"middle_school_chemistry", "初中化学", "STEM"},
	{"veterinary_medicine", "兽医学", "STEM"},
	{"college_economics", "大学经济学", "Social Science"},
	{"business_administration", "工商管理", "Social Science"},
	{"marxism", "马克思主义基本原理", "Social Science"},
	{"mao_zedong_thought", "毛泽东思想和中国特色社会主义理论体系概论", "Social Science"},
	{"education_science", "教育学", "Social Science"},
	{"teacher_qualification", "教师资格", "Social Science"},
	{"high_school_politics", "高中政治", "Social Science"},
	{"high_school_geography", "高中地理", "Social Science"},
	{"middle_school_politics", "初中政治", "Social Science"},
	{"middle_school_geography", "初中地理", "Social Science"},
	{"modern_chinese_history", "近代史纲要", "Humanities"},
	{"ideological_and_moral_cultivation", "思想道德修养与法律基础", "Humanities"},
	{"logic", "逻辑学", "Humanities"},
	{"law", "法学", "Humanities"},
	{"chinese_language_and_literature", "中国语言文学", "Humanities"},
	{"art_studies", "艺术学", "Humanities"},
	{"professional_tour_guide", "导游资格", "Humanities"},
	{"legal_professional", "法律职业资格", "Humanities"},
	{"high_school_chinese", "高中语文", "Humanities"},
	{"high_school_history", "高中历史", "Humanities"},
	{"middle_school_history", "初中历史", "Humanities"},
	{"civil_servant", "公务员", "Other"},
	{"sports_science", "体育学", "Other"},
	{"plant_protection", "植物保护", "Other"},
	{"basic_medicine", "基础医学", "Other"},
	{"clinical_medicine", "临床医学", "Other"},
	{"urban_and_rural_planner", "注册城乡规划师", "Other"},
	{"accountant", "注册会计师", "Other"},
	{"fire_engineer", "注册消防工程师", "Other"},
	{"environmental_impact_assessment_engineer", "环境影响评价工程师", "Other"},
	{"tax_accountant", "税务师", "Other"},
	{"physician", "医师资格", "Other"},
}

var cevalCategories = []struct{ group, title, category string }{
	{"ceval_stem", "STEM", "STEM"},
	{"ceval_social_science", "Social Science", "Social Science"},
	{"ceval_humanities", "Humanities", "Humanities"},
	{"ceval_other", "Others", "Other"},
}

// cevalHard is C-Eval Hard (README of hkust-nlp/ceval).
var cevalHard = []string{
	"advanced_mathematics", "discrete_mathematics", "probability_and_statistics", "college_chemistry", "college_physics",
	"high_school_mathematics", "high_school_chemistry", "high_school_physics",
}

var (
	agievalEnglish = []string{"aqua-rat", "gaokao-english", "logiqa-en", "lsat-ar", "lsat-lr", "lsat-rc", "sat-en", "sat-math"}
	agievalChinese = []string{
		"gaokao-biology", "gaokao-chemistry", "gaokao-chinese", "gaokao-geography", "gaokao-history", "gaokao-mathqa",
		"gaokao-physics", "jec-qa-ca", "jec-qa-kd", "logiqa-zh",
	}
	// agievalExtra is not a task of the benchmark: it is a variant of sat-en.
	agievalExtra = []string{"sat-en-without-passage"}
)

// agievalNames are the names of the tasks in Chinese.
var agievalNames = map[string]string{
	"gaokao-chinese": "高考语文", "gaokao-geography": "高考地理", "gaokao-history": "高考历史", "gaokao-biology": "高考生物",
	"gaokao-chemistry": "高考化学", "gaokao-physics": "高考物理", "gaokao-mathqa": "高考数学", "logiqa-zh": "逻辑推理",
	"jec-qa-kd": "司法", "jec-qa-ca": "司法",
}

var (
	// gaokaoSingle lists the files of type single_choice in Obj_Prompt.json of OpenLMLab/GAOKAO-Bench.
	gaokaoSingle = []string{
		"2010-2022_Math_II_MCQs", "2010-2022_Math_I_MCQs", "2010-2022_History_MCQs", "2010-2022_Biology_MCQs",
		"2010-2022_Political_Science_MCQs", "2010-2022_Chemistry_MCQs", "2010-2013_English_MCQs",
	}
	// gaokaoMore lists files that also have questions with one right letter: multi_choice and multi_question_choice.
	gaokaoMore = []string{
		"2010-2022_Physics_MCQs", "2010-2022_Chinese_Modern_Lit", "2010-2022_English_Fill_in_Blanks", "2010-2022_Geography_MCQs",
		"2010-2022_English_Reading_Comp", "2010-2022_Chinese_Lang_and_Usage_MCQs",
	}
)

// gaokaoNames has the Chinese names of the subjects, by the second word of a file's name.
var gaokaoNames = map[string]string{
	"English": "高考英语", "Math": "高考数学", "Chinese": "高考语文", "Physics": "高考物理", "Chemistry": "高考化学",
	"Biology": "高考生物", "History": "高考历史", "Geography": "高考地理", "Political": "高考政治",
}

// gaokaoSubsets has AI-Gaokao's subsets of single-answer questions, and their file in a paper's directory.
var gaokaoSubsets = []struct{ key, file string }{
	{"listening", "processed_listening.jsonl"},
	{"cloze-multiple-choice", "processed_cloze_choice.jsonl"},
	{"reading-multiple-choice", "processed_reading_mc.jsonl"},
	{"reading-cloze", "processed_reading_dependent_cloze.jsonl"},
}

// A Mean says how a group's score is computed from its tasks' scores.
type Mean string

// The means. Each group has one as its headline, and the others beside it.
const (
	Micro Mean = "micro" // over questions
	Macro Mean = "macro" // over tasks
)

// A Group is a set of tasks with one score.
type Group struct {
	Name      string   `json:"name"`
	Title     string   `json:"title"`     // name in the model card
	Benchmark string   `json:"benchmark"` // "" if Parent is set
	Parent    string   `json:"parent"`    // the group of which this is a category, or ""
	Tasks     []string `json:"tasks"`     // names
	Headline  Mean     `json:"headline"`
}

var (
	tasks     = map[string]Info{} // by name
	taskNames []string
	groups    = map[string]*Group{} // by name
	// groupNames is the order of tables: a group comes before its categories.
	groupNames []string
)

// titles are the benchmarks' names.
var titles = map[string]string{MMLU: "MMLU", CEval: "C-Eval", AGIEval: "AGIEval", GaokaoBench: "GAOKAO-Bench", GaokaoEnglish: "GAOKAO-English"}

func addTasks(benchmark string, keys ...string) []string {
	var names []string
	for _, key := range keys {
		name := benchmark + "_" + key
		if _, ok := tasks[name]; !ok {
			tasks[name] = Info{name, benchmark, key}
			taskNames = append(taskNames, name)
		}
		names = append(names, name)
	}
	return names
}

func addGroup(name, title, parent string, headline Mean, names []string) {
	benchmark := tasks[names[0]].Benchmark
	if title == "" {
		title = titles[benchmark]
	}
	groups[name] = &Group{Name: name, Title: title, Benchmark: benchmark, Parent: parent, Tasks: names, Headline: headline}
	groupNames = append(groupNames, name)
}

// init fills the read-only tables from the lists above.
func init() {
	type category struct {
		group, title string
		keys         []string
	}
	benchmark := func(name string, headline Mean, categories []category) {
		var all []string
		for _, c := range categories {
			all = append(all, addTasks(name, c.keys...)...)
		}
		addGroup(name, "", "", headline, all)
		for _, c := range categories {
			addGroup(c.group, c.title, name, headline, addTasks(name, c.keys...))
		}
	}
	var mmlu, ceval []category
	for _, c := range mmluCategories {
		mmlu = append(mmlu, category{c.group, c.title, c.subjects})
	}
	benchmark(MMLU, Micro, mmlu)
	for _, c := range cevalCategories {
		var keys []string
		for _, s := range cevalSubjects {
			if s.category == c.category {
				keys = append(keys, s.key)
			}
		}
		ceval = append(ceval, category{c.group, c.title, keys})
	}
	benchmark(CEval, Macro, ceval)
	addGroup("ceval_hard", "C-Eval Hard", CEval, Macro, addTasks(CEval, cevalHard...))
	benchmark(AGIEval, Macro, []category{{"agieval_en", "AGIEval English", agievalEnglish}, {"agieval_zh", "AGIEval Chinese", agievalChinese}})
	addTasks(AGIEval, agievalExtra...)
	addGroup(GaokaoBench, "", "", Micro, addTasks(GaokaoBench, gaokaoSingle...))
	addGroup("gaokao_bench_all", "GAOKAO-Bench, all single answers", "", Micro, addTasks(GaokaoBench, append(gaokaoSingle[:len(gaokaoSingle):len(gaokaoSingle)], gaokaoMore...)...))
	var subsets []string
	for _, s := range gaokaoSubsets {
		subsets = append(subsets, s.key)
	}
	addGroup(GaokaoEnglish, "", "", Micro, addTasks(GaokaoEnglish, subsets...))
	addGroup("gaokao_english_4", "GAOKAO-English, four options", "", Micro, addTasks(GaokaoEnglish, "reading-multiple-choice", "cloze-multiple-choice"))
}
