/// @file
/// Figures as SVG files that stand for themselves: no script, no font or file from elsewhere. Colours are CSS custom
/// properties with values for a light and a dark theme (`prefers-color-scheme`); viewers that know neither get the
/// light ones from the attributes. The bytes depend on nothing but what was drawn.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace batchlmm::svg {

/// What a colour is for; each has a value in both themes.
enum class Color { ink, muted, first, second, third, fourth };

/// How a mark looks.
struct Style {
  Color color = Color::first;
  double width = 1.5;     ///< of lines, pixels
  double radius = 2.5;    ///< of points, pixels
  double opacity = 1;     ///< 0 to 1
  bool dashed = false;    ///< lines
  std::string label = {}; /**< entry of the panel's legend; empty: none */
};

enum class Anchor { start, middle, end };

/// One coordinate system with its marks, in the order in which they are drawn. Values that are not finite are left out.
class Panel {
public:
  explicit Panel(std::string title = {}, std::string x_label = {}, std::string y_label = {});

  /// Without these an axis takes in all marks, and a little more. @param low  less than `high`, both finite
  Panel& x_range(double low, double high);
  Panel& y_range(double low, double high);
  /// Names along the y axis in place of numbers: name i stands at y = i, the first one on top.
  Panel& y_categories(std::vector<std::string> names);
  /// Height of the coordinate system in pixels, in place of the figure's.
  Panel& height(double pixels);

  /// Points (x, y). @param x, y  equally long
  Panel& points(std::span<const double> x, std::span<const double> y, Style style = {});
  /// A line through (x, y), broken where a value is not finite.
  Panel& line(std::span<const double> x, std::span<const double> y, Style style = {});
  /// Bars from 0 to heights[i] over [edges[i], edges[i + 1]]; their own width, so unequal ones are allowed.
  /// @param edges  one more than heights, ascending
  Panel& bars(std::span<const double> edges, std::span<const double> heights, Style style = {});
  /// Horizontal bars from low[i] to high[i] at y[i].
  Panel& x_intervals(std::span<const double> y, std::span<const double> low, std::span<const double> high,
                     Style style = {});
  /// Vertical bars from low[i] to high[i] at x[i].
  Panel& y_intervals(std::span<const double> x, std::span<const double> low, std::span<const double> high,
                     Style style = {});
  /// The area between `low` and `high` along x.
  Panel& band(std::span<const double> x, std::span<const double> low, std::span<const double> high, Style style = {});
  Panel& horizontal_line(double y, Style style = {});
  Panel& vertical_line(double x, Style style = {});
  /// The line y = intercept + slope x, over the whole width; it does not widen the axes.
  Panel& straight_line(double intercept, double slope, Style style = {});
  /// Text at (x, y), a little above it; it does not widen the axes.
  Panel& text(double x, double y, std::string text, Anchor anchor = Anchor::start, Color color = Color::ink);

private:
  friend class Layout;
  struct Points {
    std::vector<double> x, y;
  };
  struct Line {
    std::vector<double> x, y;
  };
  struct Bars {
    std::vector<double> edges, heights;
  };
  struct Intervals {
    std::vector<double> at, low, high;
    bool along_x = false;
  };
  struct Band {
    std::vector<double> x, low, high;
  };
  struct Reference {
    double at = 0;
    bool horizontal = false;
  };
  struct Straight {
    double intercept = 0, slope = 0;
  };
  struct Text {
    double x = 0, y = 0;
    std::string text;
    Anchor anchor = Anchor::start;
  };
  using Shape = std::variant<Points, Line, Bars, Intervals, Band, Reference, Straight, Text>;
  struct Mark {
    Shape shape;
    Style style;
  };

  std::string title_, x_label_, y_label_;
  std::optional<std::pair<double, double>> x_range_, y_range_;
  std::vector<std::string> y_categories_;
  std::optional<double> height_;
  std::vector<Mark> marks_;
};

/// Panels in a grid, row by row, below a title.
struct Figure {
  std::string title;
  std::string description;  ///< a sentence for who cannot see the figure (<desc>)
  std::vector<Panel> panels;
  int columns = 1;           ///< of panels
  double panel_width = 420;  ///< of a panel's coordinate system, pixels
  double panel_height = 280;
};

/// The figure as the text of an SVG file.
std::string svg_text(const Figure& figure);

/// Writes `svg_text` to a file. @throws OutputError
void write_svg(const std::string& path, const Figure& figure);

/// Places of an axis' ticks within [low, high]: multiples of 1, 2 or 5 times a power of ten, about `count` of them,
/// two at least.
/// @param low  less than `high`
struct Ticks {
  std::vector<double> places;
  std::vector<std::string> labels;  ///< all with as many decimals as the step needs; U+2212 for minus
};
Ticks nice_ticks(double low, double high, int count = 5);

/// Text with what XML reserves written as entities; control characters, which XML lacks, become U+FFFD, and so do
/// bytes that are no UTF-8.
std::string escaped(const std::string& text);

}  // namespace batchlmm::svg
