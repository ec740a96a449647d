#include "host/inference/svg.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "batchlmm/error.hpp"
#include "tests/temporary_folder.hpp"

namespace batchlmm::svg {
namespace {

/// What is wrong with `text` as XML; empty: nothing. Elements, attributes, entities; no comments or CDATA.
std::string fault_of_xml(const std::string& text) {
  std::vector<std::string> open;
  std::set<std::string> ids;
  bool root_closed = false;
  for (std::size_t at = 0; at < text.size();) {
    const std::string place = " at byte " + std::to_string(at);
    if (text[at] != '<') {
      const std::size_t end = std::min(text.find('<', at), text.size());
      const std::string run = text.substr(at, end - at);
      if (open.empty() && run.find_first_not_of('\n') != std::string::npos) return "text outside the root" + place;
      for (std::size_t i = run.find('&'); i != std::string::npos; i = run.find('&', i + 1)) {
        const std::string entity = run.substr(i, run.find(';', i) - i + 1);
        if (std::set<std::string>{"&amp;", "&lt;", "&gt;", "&quot;"}.count(entity) == 0) return "entity" + place;
      }
      at = end;
      continue;
    }
    const std::size_t end = text.find('>', at);
    if (end == std::string::npos) return "tag without end" + place;
    std::string tag = text.substr(at + 1, end - at - 1);
    at = end + 1;
    if (tag.starts_with("/")) {
      if (open.empty() || open.back() != tag.substr(1)) return "</" + tag.substr(1) + "> closes nothing" + place;
      open.pop_back();
      root_closed = open.empty();
      continue;
    }
    if (root_closed) return "a second root" + place;
    const bool alone = tag.ends_with("/");
    if (alone) tag.pop_back();
    const std::size_t name_end = std::min(tag.find_first_of(" \n"), tag.size());
    const std::string name = tag.substr(0, name_end);
    if (name.empty()) return "no name" + place;
    std::set<std::string> attributes;
    for (std::size_t i = name_end; i < tag.size();) {
      if (tag[i] == ' ' || tag[i] == '\n') {
        ++i;
        continue;
      }
      const std::size_t equals = tag.find('=', i);
      if (equals == std::string::npos || equals + 1 >= tag.size() || tag[equals + 1] != '"') return "attribute" + place;
      const std::size_t close = tag.find('"', equals + 2);
      if (close == std::string::npos) return "attribute without end" + place;
      const std::string key = tag.substr(i, equals - i), value = tag.substr(equals + 2, close - equals - 2);
      if (!attributes.insert(key).second) return key + " twice" + place;
      if (value.find('<') != std::string::npos) return "< in an attribute" + place;
      if (key == "id" && !ids.insert(value).second) return "id " + value + " twice" + place;
      i = close + 1;
    }
    if (!alone) open.push_back(name);
  }
  return open.empty() && root_closed ? "" : "not closed";
}

int count_of(const std::string& text, const std::string& part) {
  int count = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++count;
  return count;
}

const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();

/// One of everything.
Figure everything() {
  std::vector<double> x, y, low, high;
  for (int i = 0; i < 40; ++i) {
    x.push_back(i * 0.1 - 2);
    y.push_back(std::sin(x.back()));
    low.push_back(y.back() - 0.3);
    high.push_back(y.back() + 0.3);
  }
  y[7] = nan;
  high[20] = infinity;
  Panel curve("A \"curve\" & its <band>", "x", "sin(x)");
  curve.band(x, low, high, {.opacity = 0.2, .label = "95 % band"}).line(x, y, {.label = "estimate"});
  curve.points(x, y, {.color = Color::second, .opacity = 0.6, .label = "data"});
  curve.horizontal_line(0, {.color = Color::muted, .dashed = true}).vertical_line(0.5).straight_line(0, 1);
  curve.text(0.5, 0.5, "here", Anchor::middle);
  Panel histogram("Histogram", "statistic", "density");
  histogram.bars(std::vector<double>{0, 1, 2, 4}, std::vector<double>{0.5, 0.3, 0.1});
  Panel levels("Levels", "mode", "");
  levels.y_categories({"one", "two & a half", "three"});
  levels.x_intervals(std::vector<double>{0, 1, 2}, std::vector<double>{-1, 0, 1}, std::vector<double>{1, 2, 3});
  levels.points(std::vector<double>{0, 1, 2}, std::vector<double>{0, 1, 2});
  Panel bars("Vertical", "level", "value");
  bars.y_intervals(std::vector<double>{0, 1}, std::vector<double>{-1, 0}, std::vector<double>{1, nan});
  return {"Every mark", "A test of <every> mark", {curve, histogram, levels, bars, Panel("Empty")}, 2};
}

TEST(Ticks, AreMultiplesOfOneTwoOrFiveTimesAPowerOfTen) {
  struct Case {
    double low, high;
    std::vector<std::string> labels;
  };
  for (const Case& c : {
           Case{0, 10, {"0", "2", "4", "6", "8", "10"}},
           Case{-3.2, 3.2, {"−3", "−2", "−1", "0", "1", "2", "3"}},
           Case{0, 1, {"0.0", "0.2", "0.4", "0.6", "0.8", "1.0"}},
           Case{101.3, 99.8 + 5, {"101.5", "102.0", "102.5", "103.0", "103.5", "104.0", "104.5"}},
           Case{0.00031, 0.00042, {"0.00032", "0.00034", "0.00036", "0.00038", "0.00040", "0.00042"}},
           Case{0, 3e6, {"0", "5.0e5", "1.0e6", "1.5e6", "2.0e6", "2.5e6", "3.0e6"}},
           Case{1.9e-7, 4.1e-7, {"2.0e−7", "2.5e−7", "3.0e−7", "3.5e−7", "4.0e−7"}},
       }) {
    const Ticks ticks = nice_ticks(c.low, c.high);

    EXPECT_EQ(ticks.labels, c.labels) << c.low << " to " << c.high;
  }
}

TEST(Ticks, LieWithinTheRangeAndAreTwoAtLeast) {
  for (double low : {-1e7, -5.3, -1e-9, 0.0, 1e-4, 7.0, 12345.678})
    for (double span : {1e-6, 3e-3, 0.7, 1.0, 2.5, 9.99, 1e4, 3e9})
      for (int count : {1, 2, 5, 9}) {
        const Ticks ticks = nice_ticks(low, low + span, count);

        ASSERT_GE(ticks.places.size(), 2U) << low << " + " << span << ", " << count;
        ASSERT_LE(ticks.places.size(), 2U * static_cast<std::size_t>(count) + 3) << low << " + " << span;
        EXPECT_GE(ticks.places.front(), low - 1e-6 * span);
        EXPECT_LE(ticks.places.back(), low + span + 1e-6 * span);
        const std::set<std::string> labels(ticks.labels.begin(), ticks.labels.end());
        EXPECT_EQ(labels.size(), ticks.labels.size()) << "labels " << low << " + " << span << " are not told apart";
      }
  EXPECT_TRUE(nice_ticks(1, 1).places.empty());
  EXPECT_TRUE(nice_ticks(0, nan).places.empty());
}

TEST(Svg, IsWellFormedWhateverTheMarksAndTexts) {
  const std::string text = svg_text(everything());

  EXPECT_EQ(fault_of_xml(text), "");
  EXPECT_EQ(text.find("nan"), std::string::npos);
  EXPECT_EQ(text.find("inf"), std::string::npos);
  EXPECT_NE(text.find("A &quot;curve&quot; &amp; its &lt;band&gt;"), std::string::npos);
  EXPECT_EQ(fault_of_xml(svg_text({})), "");
}

TEST(Svg, StandsForItselfInBothThemes) {
  const std::string text = svg_text(everything());

  EXPECT_EQ(text.find("<script"), std::string::npos);
  EXPECT_EQ(text.find("@import"), std::string::npos);
  EXPECT_EQ(count_of(text, "http"), 1) << "the name space only";
  EXPECT_NE(text.find("@media (prefers-color-scheme:dark)"), std::string::npos);
  EXPECT_NE(text.find("role=\"img\""), std::string::npos);
  EXPECT_NE(text.find("<title id=\"title\">Every mark</title>"), std::string::npos);
  EXPECT_NE(text.find("<desc id=\"desc\">A test of &lt;every&gt; mark</desc>"), std::string::npos);
}

/// WCAG 2's relative luminance of "#rrggbb".
double luminance(const std::string& color) {
  const auto channel = [&](int i) {
    const double c = static_cast<double>(std::stoi(color.substr(1 + 2 * i, 2), nullptr, 16)) / 255;
    return c <= 0.04045 ? c / 12.92 : std::pow((c + 0.055) / 1.055, 2.4);
  };
  return 0.2126 * channel(0) + 0.7152 * channel(1) + 0.0722 * channel(2);
}

TEST(Svg, ColoursStandOutFromTheBackgroundOfTheirTheme) {
  const std::string text = svg_text({});
  const auto value = [&](const std::string& name, std::size_t from) {
    return text.substr(text.find("--" + name + ":#", from) + name.size() + 3, 7);
  };
  for (const std::size_t theme : {text.find("color-scheme:light"), text.find("@media")}) {
    ASSERT_NE(theme, std::string::npos);
    const double background = luminance(value("surface", theme));
    for (const std::string name : {"ink", "muted", "first", "second", "third", "fourth"}) {
      const double mark = luminance(value(name, theme));

      const double contrast = (std::max(mark, background) + 0.05) / (std::min(mark, background) + 0.05);

      EXPECT_GE(contrast, 4.5) << name << ": WCAG 2's AA for text";
    }
  }
}

TEST(Svg, DrawsEachMarkWhereItStands) {
  Panel panel("", "", "");
  panel.x_range(0, 10).y_range(0, 100).height(100);
  panel.points(std::vector<double>{0, 5, 10}, std::vector<double>{0, 50, nan});
  const Figure figure{"", "", {panel}, 1, 200};

  const std::string text = svg_text(figure);

  // The corner of the coordinate system is that of the axes' path "Mx yv100h200".
  const std::size_t axes = text.find("v100h200");
  ASSERT_NE(axes, std::string::npos);
  const std::size_t start = text.rfind('M', axes);
  double x0 = 0, y0 = 0;
  std::istringstream(text.substr(start + 1)) >> x0 >> y0;
  const std::size_t dots = text.find("h0M");
  ASSERT_NE(dots, std::string::npos);
  double x1 = 0, y1 = 0, x2 = 0, y2 = 0;
  std::istringstream(text.substr(text.rfind('M', dots) + 1)) >> x1 >> y1;
  std::istringstream(text.substr(dots + 3)) >> x2 >> y2;
  EXPECT_NEAR(x1, x0, 0.11);
  EXPECT_NEAR(y1, y0 + 100, 0.11);
  EXPECT_NEAR(x2, x0 + 100, 0.11);
  EXPECT_NEAR(y2, y0 + 50, 0.11);
  EXPECT_EQ(count_of(text, "h0"), 2) << "the point that is not finite is left out";
}

TEST(Svg, ManyPointsTakeFewElementsAndFewBytes) {
  std::vector<double> x(100'000), y(100'000);
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] = std::sin(static_cast<double>(i) * 12.9898) * 43758.5453;
    y[i] = std::cos(static_cast<double>(i) * 78.233) * 1e-3;
  }
  Panel panel("points", "x", "y");
  panel.points(x, y, {.opacity = 0.4});

  const std::string text = svg_text({"", "", {panel}});

  EXPECT_EQ(fault_of_xml(text), "");
  EXPECT_LT(text.size(), 16 * x.size());
  EXPECT_LT(count_of(text, "<path"), 20);
}

TEST(Svg, LongTitlesAreBrokenIntoLines) {
  const std::string title = "frequency ~ attitude + gender + (1 | subject) + (1 | scenario) + offset(log(exposure))";

  const std::string text = svg_text({title, "", {Panel(title)}, 1, 300});

  EXPECT_EQ(fault_of_xml(text), "");
  EXPECT_EQ(count_of(text, title), 1) << "whole in <title> alone";
  // The first line of both, bold.
  const std::size_t line = text.find("font-weight=\"600\">");
  ASSERT_NE(line, std::string::npos);
  const std::string first = text.substr(line + 18, text.find('<', line) - line - 18);
  EXPECT_TRUE(title.starts_with(first)) << first;
  EXPECT_LT(first.size(), 44U) << "half of an em a character, 350 pixels";
  EXPECT_GT(first.size(), 15U);
}

TEST(Svg, TheSameFigureHasTheSameBytes) { EXPECT_EQ(svg_text(everything()), svg_text(everything())); }

TEST(Svg, AConstantOrHugeValueStillMakesAnAxis) {
  for (const double value : {0.0, 3.0, -1e300, 1e-300, 5e12}) {
    Panel panel("constant", "x", "y");
    panel.points(std::vector<double>{value, value}, std::vector<double>{value, value});

    const std::string text = svg_text({"", "", {panel}});

    EXPECT_EQ(fault_of_xml(text), "") << value;
    EXPECT_EQ(count_of(text, "h0M"), 1) << value;
  }
}

TEST(Svg, TextThatXmlCannotHoldIsReplaced) {
  EXPECT_EQ(escaped("a<b>&\"c\""), "a&lt;b&gt;&amp;&quot;c&quot;");
  EXPECT_EQ(escaped("Ω≈ç√ \U0001F600"), "Ω≈ç√ \U0001F600");
  EXPECT_EQ(escaped(std::string("a\x01\n\x7f", 4)), "a\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(escaped("\xff\xc3"), "\uFFFD\uFFFD");
  EXPECT_EQ(escaped("\xed\xa0\x80"), "\uFFFD\uFFFD\uFFFD") << "a surrogate";
}

TEST(Svg, AFileIsWrittenWholeOrTheErrorSaysWhyNot) {
  const testing::TemporaryFolder folder;
  const std::string path = folder / "figure.svg";

  write_svg(path, everything());

  EXPECT_EQ(testing::content_of(path), svg_text(everything()));
  EXPECT_THROW(write_svg(folder / "no/such/folder.svg", everything()), OutputError);
  EXPECT_EQ(folder.count(), 1) << "nothing but the figure is left";
}

}  // namespace
}  // namespace batchlmm::svg
