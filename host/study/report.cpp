#include "host/study/report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "host/inference/svg.hpp"

namespace batchlmm::study {
namespace {

using svg::escaped;

constexpr std::size_t most_lines = 8;  ///< in one panel

const char* const style = R"css(
:root { color-scheme: light dark; --ink: #1b1f24; --muted: #59636e; --rule: #d1d9e0; --paper: #ffffff; --shade: #f3f5f7; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --muted: #9aa5b1; --rule: #3d444d; --paper: #11151a; --shade: #1a2027; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 70rem; padding: 1.5rem; background: var(--paper); color: var(--ink);
       font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .5rem; }
p, dl { margin: .4rem 0; } .muted { color: var(--muted); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; } dt { color: var(--muted); } dd { margin: 0; }
.wide { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th { background: var(--shade); } th.text, td.text { text-align: left; }
small { color: var(--muted); } figure { margin: .8rem 0; } .panels { display: flex; flex-wrap: wrap; gap: .5rem; } svg { max-width: 100%; height: auto; }
details > summary { cursor: pointer; margin: .6rem 0; }
td.heat { background: color-mix(in srgb, #2f81f7 calc(var(--v) * 60%), var(--paper)); }
)css";

std::string rate_text(const Estimand& e) {
  if (std::isnan(e.value)) return "<td>NA</td>";
  return fmt::format("<td>{:.4f} <small>± {:.4f}</small></td>", e.value, e.mcse);
}

class Page {
public:
  Page(const StudyFile& study, const ReportFacts& facts, const std::vector<ReportCell>& cells)
      : study_(study),
        facts_(facts),
        cells_(cells),
        curves_(study.grid_keys(), cells),
        target_power_(study.specification(0).target_power) {}

  std::string html() {
    const Specification first = study_.specification(0);
    const std::string title = first.name.empty() ? "Simulation study" : first.name;
    out_ =
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>" +
        escaped(title) + "</title>\n<style>" + style + "</style>\n</head>\n<body>\n<h1>" + escaped(title) + "</h1>\n";
    facts(first);
    rates("rejection_rate", "Rejection rates",
          fmt::format(
              "Share of replicates with p below {:g}: type I error where the hypothesis is true, power where it is "
              "not. ± is the Monte-Carlo standard error.",
              first.alpha),
          first.alpha);
    sizes();
    rates("coverage", "Coverage of intervals",
          fmt::format("Share of {:g} % intervals that hold the true value.", 100 * first.level), first.level);
    rates("selection_rate", "Models chosen", "Share of replicates in which a selection chose the model.", -1);
    fits();
    estimates();
    out_ += "<h2>Study file</h2>\n<details><summary>study.toml</summary><div class=\"wide\"><pre>" +
            escaped_lines(study_.text()) + "</pre></div></details>\n</body>\n</html>\n";
    return std::move(out_);
  }

private:
  static std::string escaped_lines(const std::string& text) {
    // `escaped` takes line breaks for what XML lacks: line by line.
    std::string out;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t end = std::min(text.find('\n', at), text.size());
      out += escaped(text.substr(at, end - at)) + "\n";
      at = end + 1;
    }
    return out;
  }

  void facts(const Specification& first) {
    out_ += "<dl>\n";
    const auto line = [&](const char* name, const std::string& value) {
      out_ += fmt::format("<dt>{}</dt><dd>{}</dd>\n", name, escaped(value));
    };
    line("cells", std::to_string(facts_.cells));
    line("replicates", std::to_string(facts_.replicates));
    line("seed", std::to_string(first.seed));
    line("design", first.design.kind);
    line("truth", first.truth.formula);
    for (const ModelToFit& model : first.models)
      line(("model " + escaped(model.name)).c_str(),
           model.formula + (model.method == Method::reml ? " (REML)" : " (ML)"));
    line("made by", facts_.program);
    out_ += "</dl>\n";
    if (facts_.cells > cells_.size())
      out_ += fmt::format("<p class=\"muted\">This page shows the first {} cells; cells.parquet has all.</p>\n",
                          cells_.size());
  }

  void head_of_cell() {
    out_ += "<th class=\"text\">cell</th>";
    for (const std::string& key : study_.grid_keys()) out_ += "<th>" + escaped(curves_.name_of(key)) + "</th>";
    out_ += "<th>n</th>";
  }
  void start_of_cell(const ReportCell& cell) {
    out_ += fmt::format("<tr><td class=\"text\">{}</td>", cell.cell);
    for (const std::string& key : study_.grid_keys()) {
      std::string text;
      for (const GridValue& value : cell.values)
        if (value.key == key) text = value_text(value);
      out_ += "<td>" + escaped(text) + "</td>";
    }
    out_ += fmt::format("<td>{}</td>", cell.replicates);
  }

  void rates(const std::string& name, const char* title, const std::string& text, double nominal) {
    const auto found = curves_.columns(name);
    if (found.empty()) return;
    out_ += fmt::format("<h2>{}</h2>\n<p>{}</p>\n", title, escaped(text));
    for (const std::string& axis : curves_.axes()) curves(name, title, axis, found, nominal);
    if (curves_.axes().size() >= 2) heat(name, found);
    out_ += "<div class=\"wide\"><table>\n<tr>";
    head_of_cell();
    for (const auto& [subject, term] : found)
      out_ += "<th>" + escaped(subject) + (term.empty() ? "" : "<br>" + escaped(term)) + "</th>";
    out_ += "</tr>\n";
    for (const ReportCell& cell : cells_) {
      start_of_cell(cell);
      for (const auto& [subject, term] : found) {
        const Estimand* e = find(cell, subject, term, name);
        out_ += e != nullptr ? rate_text(*e) : "<td></td>";
      }
      out_ += "</tr>\n";
    }
    out_ += "</table></div>\n";
  }

  void curves(const std::string& name, const char* title, const std::string& axis,
              const std::vector<std::pair<std::string, std::string>>& found, double nominal) {
    constexpr std::size_t most_panels = 12;
    // A figure a panel, so that they find their places on narrow pages.
    std::vector<std::string> figures;
    for (const auto& column : found) {
      if (figures.size() == most_panels) break;
      const std::vector<Curves::Curve> lines = curves_.along(axis, name, column);
      if (lines.empty() || lines.size() > most_lines) continue;
      svg::Panel panel(column.first + (column.second.empty() ? "" : ": " + column.second), curves_.name_of(axis),
                       "share");
      panel.y_range(name == "coverage" ? 0.8 : 0, 1);
      if (nominal >= 0) panel.horizontal_line(nominal, {.color = svg::Color::muted, .width = 1, .dashed = true});
      for (std::size_t i = 0; i < lines.size(); ++i) {
        std::vector<double> x, y, low, high;
        for (const PowerPoint& p : lines[i].points) {
          x.push_back(p.x);
          y.push_back(p.rate);
          low.push_back(std::max(0.0, p.rate - 2 * p.mcse));
          high.push_back(std::min(1.0, p.rate + 2 * p.mcse));
        }
        constexpr svg::Color colors[] = {svg::Color::first, svg::Color::second, svg::Color::third, svg::Color::fourth};
        const svg::Color color = colors[i % 4];
        panel.band(x, low, high, {.color = color, .opacity = 0.2});
        panel.line(x, y, {.color = color, .width = 1.5, .dashed = i >= 4, .label = lines[i].where});
        panel.points(x, y, {.color = color, .radius = 2.5});
      }
      svg::Figure figure;
      figure.description =
          fmt::format("{} along {}, with bands of two Monte-Carlo standard errors", title, curves_.name_of(axis));
      figure.panel_width = 360;
      figure.panel_height = 240;
      figure.panels.push_back(std::move(panel));
      figures.push_back("<div>" + svg::svg_text(figure) + "</div>\n");
    }
    if (figures.empty()) return;
    out_ += "<figure class=\"panels\">\n";
    for (const std::string& one : figures) out_ += one;
    out_ += "</figure>\n";
  }

  /// Two axes as a table with shades, where nothing else varies.
  void heat(const std::string& name, const std::vector<std::pair<std::string, std::string>>& found) {
    if (study_.grid_keys().size() != 2 || curves_.axes().size() != 2) return;
    std::set<double> rows, columns_of_axis;
    std::map<std::pair<double, double>, const ReportCell*> at;
    for (const ReportCell& cell : cells_) {
      if (cell.values.size() != 2) continue;
      rows.insert(cell.values[0].number);
      columns_of_axis.insert(cell.values[1].number);
      at[{cell.values[0].number, cell.values[1].number}] = &cell;
    }
    if (rows.size() < 3 || columns_of_axis.size() < 3) return;
    for (const auto& [subject, term] : found) {
      out_ += "<figure class=\"wide\"><figcaption>" + escaped(subject) + (term.empty() ? "" : ": " + escaped(term)) +
              "</figcaption><table>\n<tr><th>" + escaped(curves_.name_of(study_.grid_keys()[0])) + " \\ " +
              escaped(curves_.name_of(study_.grid_keys()[1])) + "</th>";
      for (const double x : columns_of_axis) out_ += fmt::format("<th>{:g}</th>", x);
      out_ += "</tr>\n";
      for (const double y : rows) {
        out_ += fmt::format("<tr><th>{:g}</th>", y);
        for (const double x : columns_of_axis) {
          const auto cell = at.find({y, x});
          const Estimand* e = cell != at.end() ? find(*cell->second, subject, term, name) : nullptr;
          out_ += e != nullptr && !std::isnan(e->value)
                      ? fmt::format("<td class=\"heat\" style=\"--v:{:.3f}\">{:.3f}</td>", e->value, e->value)
                      : "<td></td>";
        }
        out_ += "</tr>\n";
      }
      out_ += "</table></figure>\n";
    }
  }

  /// Where power curves reach their target.
  void sizes() {
    std::string rows;
    for (const ReachedPower& reached : reached_power(curves_, target_power_)) {
      const RequiredSize& size = reached.size;
      rows += "<tr><td class=\"text\">" + escaped(reached.test) + "</td><td class=\"text\">" + escaped(reached.where) +
              "</td><td class=\"text\">" + escaped(curves_.name_of(reached.key)) + "</td>" +
              (size.at_first ? fmt::format("<td>at most {:g}</td><td></td></tr>\n", size.x)
                             : fmt::format("<td>{:.4g}</td><td>{:.4g} to {}</td></tr>\n", size.x, size.low,
                                           std::isinf(size.high) ? "beyond" : fmt::format("{:.4g}", size.high)));
    }
    if (rows.empty()) return;
    out_ += fmt::format(
                "<h2>Where power reaches {:g}</h2>\n<p>Interpolated on the probit scale; the interval is where the "
                "curve shifted by 1.96 Monte-Carlo standard errors reaches it.</p>\n<div class=\"wide\"><table>\n"
                "<tr><th class=\"text\">test</th><th class=\"text\">where</th><th class=\"text\">along</th>"
                "<th>value</th><th>95 % interval</th></tr>\n",
                target_power_) +
            rows + "</table></div>\n";
  }

  void fits() {
    std::vector<std::string> models;
    for (const auto& column : curves_.columns("singular_share")) models.push_back(column.first);
    if (models.empty()) return;
    out_ +=
        "<h2>How the fits ended</h2>\n<p>Shares of replicates: singular fits, which count, and failed ones, which do "
        "not.</p>\n<div class=\"wide\"><table>\n<tr>";
    head_of_cell();
    for (const std::string& model : models)
      out_ += "<th>" + escaped(model) + "<br>singular</th><th>" + escaped(model) + "<br>failed</th>";
    out_ += "</tr>\n";
    for (const ReportCell& cell : cells_) {
      start_of_cell(cell);
      for (const std::string& model : models) {
        const Estimand* singular = find(cell, model, "", "singular_share");
        double failed = 0;
        for (const char* status : {"iteration_limit", "not_positive_definite", "non_finite"})
          if (const Estimand* e = find(cell, model, status, "status_share")) failed += e->value;
        out_ += singular != nullptr ? fmt::format("<td>{:.4f}</td><td>{:.4f}</td>", singular->value, failed)
                                    : std::string("<td></td><td></td>");
      }
      out_ += "</tr>\n";
    }
    out_ += "</table></div>\n";
  }

  void estimates() {
    constexpr std::size_t most_rows = 2000;
    out_ +=
        "<h2>Estimates</h2>\n<details><summary>mean, bias, RMSE, empirical and mean model standard error of every "
        "parameter</summary>\n<div class=\"wide\"><table>\n<tr>";
    head_of_cell();
    out_ += "<th class=\"text\">model</th><th class=\"text\">parameter</th>";
    const std::vector<std::string> names{"mean", "bias", "rmse", "empirical_se", "model_se"};
    for (const std::string& name : names) out_ += "<th>" + name + "</th>";
    out_ += "</tr>\n";
    std::size_t rows = 0, shown = 0;
    for (const ReportCell& cell : cells_) {
      if (rows >= most_rows) break;
      ++shown;
      for (const Estimand& e : cell.estimands) {
        if (e.name != "mean") continue;
        ++rows;
        start_of_cell(cell);
        out_ += "<td class=\"text\">" + escaped(e.subject) + "</td><td class=\"text\">" + escaped(e.term) + "</td>";
        for (const std::string& name : names) {
          const Estimand* one = find(cell, e.subject, e.term, name);
          out_ += one == nullptr
                      ? "<td></td>"
                      : fmt::format("<td>{:.5g}{}</td>", one->value,
                                    std::isnan(one->mcse) ? "" : fmt::format(" <small>± {:.2g}</small>", one->mcse));
        }
        out_ += "</tr>\n";
      }
    }
    out_ += "</table></div>\n";
    if (shown < facts_.cells)
      out_ += fmt::format("<p class=\"muted\">Of the first {} cells; cells.parquet has all.</p>\n", shown);
    out_ += "</details>\n";
  }

  const StudyFile& study_;
  const ReportFacts& facts_;
  const std::vector<ReportCell>& cells_;
  Curves curves_;
  double target_power_;
  std::string out_;
};

}  // namespace

std::string report_html(const StudyFile& study, const ReportFacts& facts, const std::vector<ReportCell>& cells) {
  return Page(study, facts, cells).html();
}

}  // namespace batchlmm::study
