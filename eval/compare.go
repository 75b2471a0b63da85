package eval

import (
	"fmt"
	"math"
	"strings"
)

// A Comparison compares the answers of two evaluations to the same questions.
type Comparison struct {
	Rows     []ComparisonRow `json:"rows"`     // groups, then tasks, then all together
	Unpaired int             `json:"unpaired"` // questions answered in only one of the evaluations
}

// A ComparisonRow compares answers over some questions, each counted once.
type ComparisonRow struct {
	Name      string  `json:"name"`
	Questions int     `json:"questions"`
	AccA      float64 `json:"acc_a"`
	AccB      float64 `json:"acc_b"`
	OnlyA     int     `json:"only_a"` // questions that only the first evaluation has right
	OnlyB     int     `json:"only_b"`
	// Low and High are the 95 % confidence interval of B's accuracy less A's (Wald, paired).
	Low  float64 `json:"low"`
	High float64 `json:"high"`
	// P is the probability of a split of OnlyA and OnlyB at least as uneven, if both were equally good: the exact
	// two-sided McNemar test.
	P            float64 `json:"p"`
	SamePred     float64 `json:"same_pred"`    // share of questions with the same letter
	LogProbMean  float64 `json:"logprob_mean"` // mean |difference| of the choices' log-probabilities
	LogProbWorst float64 `json:"logprob_greatest"`
}

// pairing has the counts from which a ComparisonRow is computed.
type pairing struct {
	n, a, b, onlyA, onlyB, same, logProbs int
	sum, worst                            float64
}

func (p *pairing) add(a, b *Sample) {
	p.n++
	if a.Correct {
		p.a++
	}
	if b.Correct {
		p.b++
	}
	if a.Correct && !b.Correct {
		p.onlyA++
	}
	if b.Correct && !a.Correct {
		p.onlyB++
	}
	if a.Pred == b.Pred {
		p.same++
	}
	for i := range min(len(a.LogProbs), len(b.LogProbs)) {
		d := math.Abs(a.LogProbs[i] - b.LogProbs[i])
		p.sum += d
		p.worst = max(p.worst, d)
		p.logProbs++
	}
}

func (p *pairing) row(name string) ComparisonRow {
	n := float64(p.n)
	r := ComparisonRow{
		Name: name, Questions: p.n, AccA: float64(p.a) / n, AccB: float64(p.b) / n, OnlyA: p.onlyA, OnlyB: p.onlyB,
		P: mcNemar(p.onlyA, p.onlyB), SamePred: float64(p.same) / n, LogProbWorst: p.worst,
	}
	if p.logProbs > 0 {
		r.LogProbMean = p.sum / float64(p.logProbs)
	}
	d := float64(p.onlyB - p.onlyA)
	se := math.Sqrt(float64(p.onlyA+p.onlyB)-d*d/n) / n
	r.Low, r.High = d/n-1.96*se, d/n+1.96*se
	return r
}

// mcNemar returns p of the exact two-sided test for b and c discordant pairs: twice the lesser tail of Binomial(b+c,
// 1/2).
func mcNemar(b, c int) float64 {
	n := b + c
	logHalf := float64(n) * math.Log(0.5)
	lgN, _ := math.Lgamma(float64(n + 1))
	sum := 0.0
	for k := 0; k <= min(b, c); k++ {
		lgK, _ := math.Lgamma(float64(k + 1))
		lgRest, _ := math.Lgamma(float64(n - k + 1))
		sum += math.Exp(lgN - lgK - lgRest + logHalf)
	}
	return min(1, 2*sum)
}

// Compare pairs the samples of two evaluations by task and question. Questions without a known answer are left out. If
// the evaluations have no question in common, the error is a *MergeError.
func Compare(a, b map[string][]Sample) (*Comparison, error) {
	out := &Comparison{}
	all := &pairing{}
	byTask := map[string]*pairing{}
	byGroup := map[string]*pairing{}
	for _, task := range taskNames {
		others := map[string]*Sample{}
		for i := range b[task] {
			others[b[task][i].ID] = &b[task][i]
		}
		for i := range a[task] {
			x := &a[task][i]
			y := others[x.ID]
			delete(others, x.ID)
			switch {
			case y == nil || x.DocHash != y.DocHash:
				out.Unpaired++
				continue
			case x.Gold == "":
				continue
			}
			all.add(x, y)
			into(byTask, task).add(x, y)
			for _, name := range groupNames {
				for _, member := range groups[name].Tasks {
					if member == task {
						into(byGroup, name).add(x, y)
					}
				}
			}
		}
		out.Unpaired += len(others)
	}
	if all.n == 0 {
		return nil, &MergeError{"the evaluations have no scored question in common"}
	}
	for _, name := range groupNames {
		if p := byGroup[name]; p != nil {
			out.Rows = append(out.Rows, p.row(name))
		}
	}
	for _, name := range taskNames {
		if p := byTask[name]; p != nil {
			out.Rows = append(out.Rows, p.row(name))
		}
	}
	out.Rows = append(out.Rows, all.row("all"))
	return out, nil
}

func into(m map[string]*pairing, key string) *pairing {
	if m[key] == nil {
		m[key] = &pairing{}
	}
	return m[key]
}

// String returns a table, in percent.
func (c *Comparison) String() string {
	var rows [][]string
	for _, r := range c.Rows {
		rows = append(rows, []string{
			r.Name, fmt.Sprint(r.Questions), fmt.Sprintf("%.2f", 100*r.AccA), fmt.Sprintf("%.2f", 100*r.AccB), fmt.Sprintf("%+.2f", 100*(r.AccB-r.AccA)),
			fmt.Sprintf("%+.2f to %+.2f", 100*r.Low, 100*r.High), fmt.Sprint(r.OnlyA), fmt.Sprint(r.OnlyB), fmt.Sprintf("%.3g", r.P),
			fmt.Sprintf("%.2f", 100*r.SamePred), fmt.Sprintf("%.4f", r.LogProbMean), fmt.Sprintf("%.4f", r.LogProbWorst),
		})
	}
	var b strings.Builder
	b.WriteString(render([]string{"", "n", "A", "B", "B - A", "95 %", "only A", "only B", "p", "same", "dlogp", "greatest"},
		[]bool{true, false, false, false, false, false, false, false, false, false, false, false}, rows))
	b.WriteString("Accuracy over questions in percent. p: exact two-sided McNemar test over the questions that only one evaluation has right; it\n" +
		"is not corrected for the number of rows. 95 %: Wald interval of the paired difference. dlogp: mean and greatest difference\n" +
		"of the choices' log-probabilities.\n")
	if c.Unpaired > 0 {
		fmt.Fprintf(&b, "%d questions are answered in only one evaluation, or have another text: they are left out.\n",
			c.Unpaired)
	}
	return b.String()
}
