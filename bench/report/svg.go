package report

import (
	"fmt"
	"html/template"
	"math"
	"strings"
	"time"
)

// Every figure is as wide as this, in the SVG's own units; the page scales it.
const width = 640

// hues is how many colors the page's style sheet defines.
const hues = 8

// drawing collects the elements of one SVG. Text that comes from outside goes through text, which escapes it.
type drawing struct{ strings.Builder }

func (d *drawing) add(format string, args ...any) { fmt.Fprintf(d, format, args...) }

func (d *drawing) text(x, y float64, class, anchor, text string) {
	d.add(`<text x="%.1f" y="%.1f" class="%s" text-anchor="%s">%s</text>`, x, y, class, anchor, template.HTMLEscapeString(text))
}

func (d *drawing) finish(title string, height float64) template.HTML {
	return template.HTML(fmt.Sprintf(`<svg viewBox="0 0 %d %.0f" role="img" xmlns="http://www.w3.org/2000/svg"><title>%s</title>%s</svg>`,
		width, height, template.HTMLEscapeString(title), d.String()))
}

// bars draws a chart: per path a bar as long as the median, with a whisker from the lowest to the highest run.
func bars(c Chart) template.HTML {
	const left, right, row, thick = 138, 190, 34, 18
	top := 0.0
	for _, b := range c.Bars {
		top = max(top, b.Max)
	}
	if top == 0 {
		top = 1
	}
	x := func(v float64) float64 { return left + v/top*(width-left-right) }
	var d drawing
	for i, b := range c.Bars {
		y := float64(i*row) + 6
		middle := y + thick/2
		d.text(left-8, middle+4.5, "label", "end", b.Path)
		d.add(`<rect x="%d" y="%.1f" width="%.1f" height="%d" rx="2" class="c%d"/>`, left, y, max(x(b.Median)-left, 1), thick, b.Index%hues)
		d.add(`<path d="M%.1f %.1fH%.1fM%.1f %.1fv8M%.1f %.1fv8" class="whisker"/>`,
			x(b.Min), middle, x(b.Max), x(b.Min), middle-4, x(b.Max), middle-4)
		value := figure(b.Median)
		if b.Ratio != nil && b.Ratio.To != b.Path {
			value += fmt.Sprintf("  (%.2f ×)", b.Ratio.Median)
		}
		d.text(x(b.Max)+10, middle+4.5, "value", "start", value)
	}
	d.add(`<path d="M%d 0V%d" class="axis"/>`, left, len(c.Bars)*row)
	return d.finish(c.Metric+" in "+c.Unit, float64(len(c.Bars)*row))
}

// The scale of the curves' vertical axis: each step upwards is a tenth of what lies above the one below.
var nines = []struct {
	share float64
	label string
}{{0, "0"}, {0.5, "50 %"}, {0.9, "90 %"}, {0.99, "99 %"}, {0.999, "99.9 %"}, {0.9999, "99.99 %"}}

// curves draws which share of transactions took no longer than a time: the times on a logarithmic axis, the shares so
// that the tail gets the room it deserves.
func curves(list []Curve) template.HTML {
	const left, right, top, bottom, height = 70, 20, 30, 40, 330
	low, high := time.Duration(math.MaxInt64), time.Duration(1)
	for _, c := range list {
		low = min(low, max(c.Latency.Quantile(0.001), 1))
		high = max(high, c.Latency.Quantile(0.9999))
	}
	a, b := math.Log10(float64(low)*0.9), math.Log10(float64(high)*1.1)
	x := func(t time.Duration) float64 {
		return left + min(max((math.Log10(float64(max(t, 1)))-a)/(b-a), 0), 1)*(width-left-right)
	}
	y := func(share float64) float64 {
		return height - bottom - min(-math.Log10(max(1-share, 1e-5))/4, 1)*(height-top-bottom)
	}
	var d drawing
	for _, n := range nines {
		d.add(`<path d="M%d %.1fH%d" class="grid"/>`, left, y(n.share), width-right)
		d.text(left-8, y(n.share)+4, "tick", "end", n.label)
	}
	for _, t := range ticks(low*9/10, high*11/10) {
		d.add(`<path d="M%.1f %dV%d" class="grid"/>`, x(t), top, height-bottom)
		d.text(x(t), height-bottom+18, "tick", "middle", t.String())
	}
	legend := float64(left)
	for _, c := range list {
		d.add(`<path d="%s" class="curve s%d"/>`, trace(c, x, y), c.Index%hues)
		d.add(`<rect x="%.1f" y="4" width="12" height="12" rx="2" class="c%d"/>`, legend, c.Index%hues)
		d.text(legend+18, 14.5, "label", "start", c.Path)
		legend += 40 + 8*float64(len(c.Path))
	}
	return d.finish("share of transactions that took no longer", height)
}

// trace is a curve's path up to the share at which the scale ends.
func trace(c Curve, x func(time.Duration) float64, y func(float64) float64) string {
	var line strings.Builder
	total, seen := float64(c.Latency.Count()), 0.0
	command := "M"
	for _, b := range c.Latency.Buckets() {
		fmt.Fprintf(&line, "%s%.1f %.1f", command, x(b.Value), y(seen/total))
		command = "L"
		seen += float64(b.Count)
		fmt.Fprintf(&line, "L%.1f %.1f", x(b.Value), y(seen/total))
		if seen/total >= nines[len(nines)-1].share {
			break
		}
	}
	return line.String()
}

// ticks returns round times between low and high: 1, 2 and 5 times each power of ten, or the powers alone where those
// would crowd.
func ticks(low, high time.Duration) (list []time.Duration) {
	steps := []time.Duration{1, 2, 5}
	if high/max(low, 1) > 300 {
		steps = steps[:1]
	}
	for decade := time.Duration(1); decade <= high && decade < math.MaxInt64/10; decade *= 10 {
		for _, s := range steps {
			if t := decade * s; t >= low && t <= high {
				list = append(list, t)
			}
		}
	}
	return list
}

// Hues numbers the colors for the style sheet.
func (r *Results) Hues() []int {
	list := make([]int, hues)
	for i := range list {
		list[i] = i
	}
	return list
}
