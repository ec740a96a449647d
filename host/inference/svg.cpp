#include "host/inference/svg.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string_view>
#include <unordered_set>

#include "host/data/temporary_file.hpp"

namespace batchlmm::svg {
namespace {

constexpr double text_size = 12, title_size = 14, figure_title_size = 16, line_height = 16;
constexpr double tick_length = 4, gap_between_panels = 22, page_margin = 12;
constexpr double category_pitch = 15;
/// Beyond this many, names along an axis could not be read.
constexpr std::size_t most_named_categories = 100;
constexpr std::size_t longest_name = 32;
/// Points that let others show through are drawn in so many turns: overlaps within a turn do not add up.
constexpr std::size_t turns = 8;
constexpr std::size_t many_points = 5000;

struct Theme {
  std::string_view name, light, dark;
};
constexpr std::array<Theme, 8> theme = {{
    {"ink", "#1f1f1e", "#efeeea"},
    {"muted", "#5b5a56", "#b3b2ac"},
    {"first", "#1f6ab2", "#71b3f2"},
    {"second", "#bd4517", "#f28f62"},
    {"third", "#1a7a58", "#52cc9f"},
    {"fourth", "#8448aa", "#cba0ee"},
    {"grid", "#e6e5e1", "#33322f"},
    {"surface", "#fdfdfc", "#181817"},
}};
constexpr std::size_t grid_color = 6, surface_color = 7;

/// fill="#..." class="f2": the class wins where custom properties are known.
std::string paint(const char* property, std::size_t color) {
  return fmt::format(R"({}="{}" class="{}{}")", property, theme[color].light, property[0], color);
}
std::string paint(const char* property, Color color) { return paint(property, static_cast<std::size_t>(color)); }

std::string style_sheet() {
  std::string light, dark, classes;
  for (std::size_t i = 0; i < theme.size(); ++i) {
    light += fmt::format("--{}:{};", theme[i].name, theme[i].light);
    dark += fmt::format("--{}:{};", theme[i].name, theme[i].dark);
    classes += fmt::format(".batchlmm-figure .f{0}{{fill:var(--{1})}}.batchlmm-figure .s{0}{{stroke:var(--{1})}}\n", i,
                           theme[i].name);
  }
  return fmt::format(
      "<style>\n.batchlmm-figure{{color-scheme:light dark;{}}}\n"
      "@media (prefers-color-scheme:dark){{.batchlmm-figure{{{}}}}}\n{}</style>\n",
      light, dark, classes);
}

/// Pixels with one decimal, as short as they can be written.
std::string pixels(double value) {
  // What lies far outside is clipped anyway.
  const auto tenths = static_cast<long>(std::lround(std::clamp(value, -1e5, 1e5) * 10));
  const long magnitude = std::labs(tenths);
  std::string text = tenths < 0 ? "-" : "";
  text += std::to_string(magnitude / 10);
  if (magnitude % 10 != 0) text += "." + std::to_string(magnitude % 10);
  return text;
}

/// The next code point of UTF-8, U+FFFD for what is none. @return its length in bytes
std::size_t decode(std::string_view text, char32_t& point) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  const std::size_t length = lead < 0x80                   ? 1
                             : lead >= 0xC2 && lead < 0xE0 ? 2
                             : lead >= 0xE0 && lead < 0xF0 ? 3
                             : lead >= 0xF0 && lead < 0xF5 ? 4
                                                           : 0;
  point = 0xFFFD;
  if (length == 0 || length > text.size()) return 1;
  char32_t value = length == 1 ? lead : lead & (0x7FU >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0U) != 0x80U) return 1;
    value = (value << 6U) | (byte(i) & 0x3FU);
  }
  const bool overlong = (length == 3 && value < 0x800) || (length == 4 && value < 0x10000);
  if (overlong || (value >= 0xD800 && value < 0xE000) || value > 0x10FFFF) return 1;
  point = value;
  return length;
}

/// An estimate, in ems, for the wider ones of the sans-serif fonts.
double em_width(char32_t point) {
  constexpr std::u32string_view narrow = U"iIjl.,:;|!'` ", slim = U"()[]{}-/\\ftr\"°", wide = U"mwMW@%+~=<>×±−→";
  if (narrow.find(point) != std::u32string_view::npos) return 0.34;
  if (slim.find(point) != std::u32string_view::npos) return 0.42;
  if (wide.find(point) != std::u32string_view::npos) return 0.9;
  if (point >= U'A' && point <= U'Z') return 0.7;
  return point < 0x1100 ? 0.62 : 1.0;
}

double text_width(const std::string& text, double size) {
  double ems = 0;
  for (std::size_t at = 0; at < text.size();) {
    char32_t point = 0;
    at += decode(std::string_view(text).substr(at), point);
    ems += em_width(point);
  }
  return ems * size;
}

/// Lines no wider than `width` in bold, broken at blanks.
std::vector<std::string> wrapped(const std::string& text, double width, double size) {
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t blank = std::min(text.find(' ', at), text.size());
    const std::string word = text.substr(at, blank - at);
    if (!lines.empty() && 1.08 * text_width(lines.back() + " " + word, size) <= width)
      lines.back() += " " + word;
    else
      lines.push_back(word);
    at = blank + 1;
  }
  return lines;
}

/// So many code points at most, an ellipsis in place of the rest.
std::string shortened(const std::string& text, std::size_t most) {
  std::size_t count = 0, cut = 0;
  for (std::size_t at = 0; at < text.size(); ++count) {
    char32_t point = 0;
    at += decode(std::string_view(text).substr(at), point);
    if (count + 2 == most) cut = at;
  }
  return count <= most ? text : text.substr(0, cut) + "…";
}

/// Smallest and largest finite value.
struct Extent {
  double low = std::numeric_limits<double>::infinity(), high = -std::numeric_limits<double>::infinity();
  void take(double value) {
    if (!std::isfinite(value)) return;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  void take(const std::vector<double>& values) {
    for (const double value : values) take(value);
  }
};

/// @param from_zero  a bar stands on the axis: no room below
std::pair<double, double> padded(const Extent& extent, bool from_zero) {
  if (!(extent.low <= extent.high)) return {0, 1};
  const double span = extent.high - extent.low;
  const double largest = std::max(std::abs(extent.low), std::abs(extent.high));
  if (!(span > 1e-12 * largest)) {
    const double room = largest > 0 ? 0.5 * largest : 1;
    return {extent.low - room, extent.high + room};
  }
  const double room = 0.04 * span;
  return {from_zero && extent.low == 0 ? 0 : extent.low - room, extent.high + room};
}

int exponent_of(double value) { return static_cast<int>(std::floor(std::log10(std::abs(value)) + 1e-9)); }

/// @param largest  magnitude on the axis: all of its labels are in one notation
std::string tick_label(double value, double step, double largest) {
  std::string text;
  const bool scientific = largest >= 1e6 || step < 0.99e-5;
  if (value != 0 && scientific) {
    text = fmt::format("{:.{}e}", value, std::max(0, exponent_of(largest) - exponent_of(step)));
    // "1.5e-06" is written as "1.5e-6".
    const auto e = text.find('e');
    text = text.substr(0, e) + "e" + std::to_string(std::stoi(text.substr(e + 1)));
  } else {
    text = fmt::format("{:.{}f}", value == 0 ? 0.0 : value, scientific ? 0 : std::max(0, -exponent_of(step)));
  }
  std::string proper;
  for (const char c : text) proper += c == '-' ? std::string("−") : std::string(1, c);
  return proper;
}

void same_length(std::size_t a, std::size_t b, const char* what) {
  if (a != b) throw std::invalid_argument(std::string("svg: ") + what + " of different lengths");
}

std::vector<double> copied(std::span<const double> values) { return {values.begin(), values.end()}; }

std::string text_element(double x, double y, const std::string& text, double size, Anchor anchor, std::size_t color,
                         const std::string& more = {}) {
  constexpr std::array<std::string_view, 3> anchors = {"", R"( text-anchor="middle")", R"( text-anchor="end")"};
  return fmt::format("<text x=\"{}\" y=\"{}\" font-size=\"{}\"{} {}{}>{}</text>\n", pixels(x), pixels(y), size,
                     anchors[static_cast<std::size_t>(anchor)], paint("fill", color), more, escaped(text));
}

constexpr auto ink = static_cast<std::size_t>(Color::ink), muted = static_cast<std::size_t>(Color::muted);

}  // namespace

Ticks nice_ticks(double low, double high, int count) {
  Ticks ticks;
  if (!(std::isfinite(low) && std::isfinite(high) && low < high)) return ticks;
  const double raw = (high - low) / std::max(1, count);
  const double power = std::pow(10.0, std::floor(std::log10(raw)));
  // The step that is nearest by ratio.
  const double ratio = raw / power;
  double step = power * (ratio < std::sqrt(2.0) ? 1 : ratio < std::sqrt(10.0) ? 2 : ratio < std::sqrt(50.0) ? 5 : 10);
  const auto first_of = [&](double s) { return std::ceil(low / s - 1e-9); };
  const auto last_of = [&](double s) { return std::floor(high / s + 1e-9); };
  // Wide steps may find one place only, or none.
  for (int finer = 0; finer < 3 && last_of(step) - first_of(step) < 1; ++finer) {
    const double lead = step / std::pow(10.0, std::floor(std::log10(step) + 1e-9));
    step /= lead > 4 ? 2.5 : 2;
  }
  for (double i = first_of(step); i <= last_of(step); ++i) ticks.places.push_back(i == 0 ? 0.0 : i * step);
  double largest = 0;
  for (const double place : ticks.places) largest = std::max(largest, std::abs(place));
  for (const double place : ticks.places) ticks.labels.push_back(tick_label(place, step, largest));
  return ticks;
}

std::string escaped(const std::string& text) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    char32_t point = 0;
    const std::size_t length = decode(std::string_view(text).substr(at), point);
    if (point == U'&')
      out += "&amp;";
    else if (point == U'<')
      out += "&lt;";
    else if (point == U'>')
      out += "&gt;";
    else if (point == U'"')
      out += "&quot;";
    else if (point < 0x20 || point == 0x7F || point == 0xFFFD || point == 0xFFFE || point == 0xFFFF)
      out += "\xEF\xBF\xBD";
    else
      out += text.substr(at, length);
    at += length;
  }
  return out;
}

Panel::Panel(std::string title, std::string x_label, std::string y_label)
    : title_(std::move(title)), x_label_(std::move(x_label)), y_label_(std::move(y_label)) {}

Panel& Panel::x_range(double low, double high) {
  if (!(std::isfinite(low) && std::isfinite(high) && low < high)) throw std::invalid_argument("svg: an empty x range");
  x_range_ = {low, high};
  return *this;
}
Panel& Panel::y_range(double low, double high) {
  if (!(std::isfinite(low) && std::isfinite(high) && low < high)) throw std::invalid_argument("svg: an empty y range");
  y_range_ = {low, high};
  return *this;
}
Panel& Panel::y_categories(std::vector<std::string> names) {
  y_categories_ = std::move(names);
  return *this;
}
Panel& Panel::height(double pixels) {
  height_ = pixels;
  return *this;
}
Panel& Panel::points(std::span<const double> x, std::span<const double> y, Style style) {
  same_length(x.size(), y.size(), "points");
  marks_.push_back({Points{copied(x), copied(y)}, std::move(style)});
  return *this;
}
Panel& Panel::line(std::span<const double> x, std::span<const double> y, Style style) {
  same_length(x.size(), y.size(), "coordinates of a line");
  marks_.push_back({Line{copied(x), copied(y)}, std::move(style)});
  return *this;
}
Panel& Panel::bars(std::span<const double> edges, std::span<const double> heights, Style style) {
  same_length(edges.size(), heights.size() + 1, "edges and heights");
  marks_.push_back({Bars{copied(edges), copied(heights)}, std::move(style)});
  return *this;
}
Panel& Panel::x_intervals(std::span<const double> y, std::span<const double> low, std::span<const double> high,
                          Style style) {
  same_length(y.size(), low.size(), "intervals");
  same_length(y.size(), high.size(), "intervals");
  marks_.push_back({Intervals{copied(y), copied(low), copied(high), true}, std::move(style)});
  return *this;
}
Panel& Panel::y_intervals(std::span<const double> x, std::span<const double> low, std::span<const double> high,
                          Style style) {
  same_length(x.size(), low.size(), "intervals");
  same_length(x.size(), high.size(), "intervals");
  marks_.push_back({Intervals{copied(x), copied(low), copied(high), false}, std::move(style)});
  return *this;
}
Panel& Panel::band(std::span<const double> x, std::span<const double> low, std::span<const double> high, Style style) {
  same_length(x.size(), low.size(), "limits of a band");
  same_length(x.size(), high.size(), "limits of a band");
  marks_.push_back({Band{copied(x), copied(low), copied(high)}, std::move(style)});
  return *this;
}
Panel& Panel::horizontal_line(double y, Style style) {
  marks_.push_back({Reference{y, true}, std::move(style)});
  return *this;
}
Panel& Panel::vertical_line(double x, Style style) {
  marks_.push_back({Reference{x, false}, std::move(style)});
  return *this;
}
Panel& Panel::straight_line(double intercept, double slope, Style style) {
  marks_.push_back({Straight{intercept, slope}, std::move(style)});
  return *this;
}
Panel& Panel::text(double x, double y, std::string text, Anchor anchor, Color color) {
  Style style;
  style.color = color;
  marks_.push_back({Text{x, y, std::move(text), anchor}, std::move(style)});
  return *this;
}

/// Where a panel's parts stand, once its column's margins are known.
class Layout {
public:
  Layout(const Panel& panel, const Figure& figure, int number)
      : panel_(panel), number_(number), width_(figure.panel_width) {
    const std::size_t names = panel.y_categories_.size();
    named_ = names > 0 && names <= most_named_categories;
    double height = figure.panel_height;
    if (named_) height = std::max(60.0, category_pitch * static_cast<double>(names));
    if (names > most_named_categories) height = std::clamp(4.0 * static_cast<double>(names), height, 900.0);
    height_ = panel.height_.value_or(height);
    ranges();
    x_ticks_ = nice_ticks(x_.first, x_.second, std::max(2, static_cast<int>(width_ / 75)));
    if (names == 0) y_ticks_ = nice_ticks(y_.first, y_.second, std::max(2, static_cast<int>(height_ / 45)));
    if (named_)
      for (std::size_t i = 0; i < names; ++i) {
        y_ticks_.places.push_back(static_cast<double>(i));
        y_ticks_.labels.push_back(shortened(panel.y_categories_[i], longest_name));
      }
    for (const std::string& label : y_ticks_.labels) left_ = std::max(left_, text_width(label, text_size));
    left_ += tick_length + 6 + (panel.y_label_.empty() ? 0 : line_height + 4);
    lay_out_legend();
    title_ = wrapped(panel.title_, width_, title_size);
    top_ = (title_.empty() ? 0 : static_cast<double>(title_.size()) * line_height + 6) + legend_height_ + 6;
    bottom_ = tick_length + line_height + (panel.x_label_.empty() ? 0 : line_height + 2) + 2;
  }

  [[nodiscard]] double left() const { return left_; }
  [[nodiscard]] double top() const { return top_; }
  [[nodiscard]] double height() const { return height_; }
  [[nodiscard]] double below() const { return height_ + bottom_; }
  [[nodiscard]] double width() const { return width_; }

  /// @param x0, y0  upper left corner of the coordinate system
  [[nodiscard]] std::string drawn(double x0, double y0) const {
    std::string out = "<g>\n" + axes(x0, y0);
    out += fmt::format("<clipPath id=\"clip{}\"><rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/></clipPath>\n",
                       number_, pixels(x0 - 3), pixels(y0 - 3), pixels(width_ + 6), pixels(height_ + 6));
    out += fmt::format("<g clip-path=\"url(#clip{})\">\n", number_);
    for (const Panel::Mark& mark : panel_.marks_)
      std::visit([&](const auto& shape) { out += draw(shape, mark.style, x0, y0); }, mark.shape);
    out += "</g>\n";
    double head = y0 - top_;
    for (const std::string& line : title_) {
      head += line_height;
      out += text_element(x0, head, line, title_size, Anchor::start, ink, R"( font-weight="600")");
    }
    if (!title_.empty()) head += 6;
    for (const Entry& entry : legend_) out += draw_entry(entry, x0 + entry.x, head + entry.row * line_height + 12);
    return out + "</g>\n";
  }

private:
  struct Entry {
    const Panel::Mark* mark;
    double x;
    int row;
  };
  static constexpr double swatch = 18;

  void lay_out_legend() {
    double x = 0;
    int row = 0;
    for (const Panel::Mark& mark : panel_.marks_) {
      if (mark.style.label.empty()) continue;
      const double wide = swatch + 6 + text_width(mark.style.label, text_size);
      if (x > 0 && x + wide > width_) {
        x = 0;
        ++row;
      }
      legend_.push_back({&mark, x, row});
      x += wide + 16;
    }
    if (!legend_.empty()) legend_height_ = (row + 1) * line_height + 2;
  }

  void ranges() {
    Extent x, y;
    bool bars = false;
    for (const Panel::Mark& mark : panel_.marks_) {
      if (const auto* points = std::get_if<Panel::Points>(&mark.shape)) {
        x.take(points->x);
        y.take(points->y);
      } else if (const auto* line = std::get_if<Panel::Line>(&mark.shape)) {
        x.take(line->x);
        y.take(line->y);
      } else if (const auto* bar = std::get_if<Panel::Bars>(&mark.shape)) {
        x.take(bar->edges);
        y.take(bar->heights);
        y.take(0);
        bars = true;
      } else if (const auto* intervals = std::get_if<Panel::Intervals>(&mark.shape)) {
        Extent& along = intervals->along_x ? x : y;
        along.take(intervals->low);
        along.take(intervals->high);
        (intervals->along_x ? y : x).take(intervals->at);
      } else if (const auto* band = std::get_if<Panel::Band>(&mark.shape)) {
        x.take(band->x);
        y.take(band->low);
        y.take(band->high);
      } else if (const auto* reference = std::get_if<Panel::Reference>(&mark.shape)) {
        (reference->horizontal ? y : x).take(reference->at);
      }
    }
    x_ = panel_.x_range_.value_or(padded(x, false));
    y_ = panel_.y_range_.value_or(padded(y, bars));
    // The first name stands on top.
    if (!panel_.y_categories_.empty()) y_ = {static_cast<double>(panel_.y_categories_.size()) - 0.4, -0.6};
  }

  [[nodiscard]] double x_at(double x, double x0) const { return x0 + (x - x_.first) / (x_.second - x_.first) * width_; }
  [[nodiscard]] double y_at(double y, double y0) const {
    return y0 + (y_.second - y) / (y_.second - y_.first) * height_;
  }

  [[nodiscard]] std::string axes(double x0, double y0) const {
    std::string grid, labels;
    for (std::size_t i = 0; i < x_ticks_.places.size(); ++i) {
      const double x = x_at(x_ticks_.places[i], x0);
      grid += fmt::format("M{} {}v{}", pixels(x), pixels(y0), pixels(height_));
      labels += text_element(x, y0 + height_ + tick_length + 12, x_ticks_.labels[i], text_size, Anchor::middle, muted);
    }
    for (std::size_t i = 0; i < y_ticks_.places.size(); ++i) {
      const double y = y_at(y_ticks_.places[i], y0);
      grid += fmt::format("M{} {}h{}", pixels(x0), pixels(y), pixels(width_));
      labels += text_element(x0 - tick_length - 3, y + 4, y_ticks_.labels[i], text_size, Anchor::end, muted);
    }
    std::string out =
        fmt::format("<path d=\"{}\" fill=\"none\" stroke-width=\"1\" {}/>\n", grid, paint("stroke", grid_color));
    out += fmt::format("<path d=\"M{} {}v{}h{}\" fill=\"none\" stroke-width=\"1\" {}/>\n", pixels(x0), pixels(y0),
                       pixels(height_), pixels(width_), paint("stroke", muted));
    out += labels;
    if (!panel_.x_label_.empty())
      out += text_element(x0 + width_ / 2, y0 + height_ + tick_length + line_height + 14, panel_.x_label_, text_size,
                          Anchor::middle, ink);
    if (!panel_.y_label_.empty()) {
      const double x = x0 - left_ + text_size - 1, y = y0 + height_ / 2;
      out += text_element(x, y, panel_.y_label_, text_size, Anchor::middle, ink,
                          fmt::format(" transform=\"rotate(-90 {} {})\"", pixels(x), pixels(y)));
    }
    return out;
  }

  static std::string stroke(const Style& style) {
    std::string out = fmt::format("fill=\"none\" stroke-width=\"{}\"", style.width);
    if (style.dashed) out += " stroke-dasharray=\"5 4\"";
    if (style.opacity < 1) out += fmt::format(" stroke-opacity=\"{}\"", style.opacity);
    return out + " " + paint("stroke", style.color);
  }
  static std::string filled(const Style& style) {
    std::string out;
    if (style.opacity < 1) out += fmt::format("fill-opacity=\"{}\" ", style.opacity);
    return out + paint("fill", style.color);
  }
  static std::string path(const std::string& d, const std::string& look) {
    return d.empty() ? "" : "<path d=\"" + d + "\" " + look + "/>\n";
  }

  [[nodiscard]] std::string draw(const Panel::Points& points, const Style& style, double x0, double y0) const {
    // A dot is a line of no length with round ends. Of very many, those of one turn that hide each other are drawn
    // once.
    const std::size_t groups = style.opacity < 1 ? turns : 1;
    const bool very_many = points.x.size() > many_points;
    std::vector<std::string> d(groups);
    std::vector<std::unordered_set<std::string>> drawn(groups);
    const auto place = [&](double at) { return pixels(very_many ? std::round(2 * at) / 2 : at); };
    for (std::size_t i = 0; i < points.x.size(); ++i) {
      if (!std::isfinite(points.x[i]) || !std::isfinite(points.y[i])) continue;
      std::string dot = "M" + place(x_at(points.x[i], x0)) + " " + place(y_at(points.y[i], y0)) + "h0";
      if (very_many && !drawn[i % groups].insert(dot).second) continue;
      d[i % groups] += dot;
    }
    Style dot = style;
    dot.width = 2 * style.radius;
    dot.dashed = false;
    std::string out;
    for (const std::string& group : d) out += path(group, "stroke-linecap=\"round\" " + stroke(dot));
    return out;
  }
  [[nodiscard]] std::string draw(const Panel::Line& line, const Style& style, double x0, double y0) const {
    std::string d;
    bool open = false;
    for (std::size_t i = 0; i < line.x.size(); ++i) {
      if (!std::isfinite(line.x[i]) || !std::isfinite(line.y[i])) {
        open = false;
        continue;
      }
      d += (open ? "L" : "M") + pixels(x_at(line.x[i], x0)) + " " + pixels(y_at(line.y[i], y0));
      open = true;
    }
    return path(d, "stroke-linejoin=\"round\" " + stroke(style));
  }
  [[nodiscard]] std::string draw(const Panel::Bars& bars, const Style& style, double x0, double y0) const {
    std::string d;
    for (std::size_t i = 0; i < bars.heights.size(); ++i) {
      const double x = x_at(bars.edges[i], x0), end = x_at(bars.edges[i + 1], x0), zero = y_at(0, y0),
                   y = y_at(bars.heights[i], y0);
      if (!std::isfinite(x) || !std::isfinite(end) || !std::isfinite(y) || y == zero) continue;
      d += fmt::format("M{} {}V{}H{}V{}Z", pixels(x), pixels(zero), pixels(y), pixels(end), pixels(zero));
    }
    if (d.empty()) return {};
    // The outline in the background's colour parts the bars.
    return fmt::format("<g stroke-width=\"0.6\" {}><path d=\"{}\" {}/></g>\n", paint("stroke", surface_color), d,
                       filled(style));
  }
  [[nodiscard]] std::string draw(const Panel::Intervals& bars, const Style& style, double x0, double y0) const {
    std::string d;
    for (std::size_t i = 0; i < bars.at.size(); ++i) {
      if (!std::isfinite(bars.at[i]) || !std::isfinite(bars.low[i]) || !std::isfinite(bars.high[i])) continue;
      if (bars.along_x)
        d += "M" + pixels(x_at(bars.low[i], x0)) + " " + pixels(y_at(bars.at[i], y0)) + "H" +
             pixels(x_at(bars.high[i], x0));
      else
        d += "M" + pixels(x_at(bars.at[i], x0)) + " " + pixels(y_at(bars.low[i], y0)) + "V" +
             pixels(y_at(bars.high[i], y0));
    }
    return path(d, stroke(style));
  }
  [[nodiscard]] std::string draw(const Panel::Band& band, const Style& style, double x0, double y0) const {
    std::string d;
    const auto present = [&](std::size_t i) {
      return std::isfinite(band.x[i]) && std::isfinite(band.low[i]) && std::isfinite(band.high[i]);
    };
    for (std::size_t first = 0; first < band.x.size(); ++first) {
      if (!present(first)) continue;
      std::size_t last = first;
      while (last + 1 < band.x.size() && present(last + 1)) ++last;
      for (std::size_t i = first; i <= last; ++i)
        d += (i == first ? "M" : "L") + pixels(x_at(band.x[i], x0)) + " " + pixels(y_at(band.high[i], y0));
      for (std::size_t i = last + 1; i-- > first;)
        d += "L" + pixels(x_at(band.x[i], x0)) + " " + pixels(y_at(band.low[i], y0));
      d += "Z";
      first = last;
    }
    return path(d, filled(style));
  }
  [[nodiscard]] std::string draw(const Panel::Reference& reference, const Style& style, double x0, double y0) const {
    if (!std::isfinite(reference.at)) return {};
    const std::string d = reference.horizontal
                              ? fmt::format("M{} {}h{}", pixels(x0), pixels(y_at(reference.at, y0)), pixels(width_))
                              : fmt::format("M{} {}v{}", pixels(x_at(reference.at, x0)), pixels(y0), pixels(height_));
    return path(d, stroke(style));
  }
  [[nodiscard]] std::string draw(const Panel::Straight& line, const Style& style, double x0, double y0) const {
    // Between the edges that it crosses first, so that a steep line keeps its slope.
    double low = x_.first, high = x_.second;
    if (line.slope != 0) {
      const double bottom = (y_.first - line.intercept) / line.slope, top = (y_.second - line.intercept) / line.slope;
      low = std::max(low, std::min(bottom, top));
      high = std::min(high, std::max(bottom, top));
    }
    if (!(low < high)) return {};
    const auto y = [&](double x) { return pixels(y_at(line.intercept + line.slope * x, y0)); };
    return path(fmt::format("M{} {}L{} {}", pixels(x_at(low, x0)), y(low), pixels(x_at(high, x0)), y(high)),
                stroke(style));
  }
  [[nodiscard]] std::string draw(const Panel::Text& text, const Style& style, double x0, double y0) const {
    if (!std::isfinite(text.x) || !std::isfinite(text.y)) return {};
    // Parted from what it stands on by the background's colour.
    return R"(<g paint-order="stroke" stroke-width="3" stroke-linejoin="round" )" + paint("stroke", surface_color) +
           ">" +
           text_element(x_at(text.x, x0), y_at(text.y, y0) - 4, text.text, text_size, text.anchor,
                        static_cast<std::size_t>(style.color)) +
           "</g>\n";
  }

  [[nodiscard]] static std::string draw_entry(const Entry& entry, double x, double y) {
    const Style& style = entry.mark->style;
    const Panel::Shape& shape = entry.mark->shape;
    std::string out;
    if (std::holds_alternative<Panel::Points>(shape)) {
      Style dot = style;
      dot.width = 2 * style.radius;
      dot.opacity = 1;
      out = path(fmt::format("M{} {}h0", pixels(x + swatch / 2), pixels(y - 4)),
                 "stroke-linecap=\"round\" " + stroke(dot));
    } else if (std::holds_alternative<Panel::Bars>(shape) || std::holds_alternative<Panel::Band>(shape)) {
      out = path(fmt::format("M{} {}h{}v10h-{}Z", pixels(x), pixels(y - 9), pixels(swatch), pixels(swatch)),
                 filled(style));
    } else {
      out = path(fmt::format("M{} {}h{}", pixels(x), pixels(y - 4), pixels(swatch)), stroke(style));
    }
    return out + text_element(x + swatch + 6, y, style.label, text_size, Anchor::start, ink);
  }

  const Panel& panel_;
  int number_;
  double width_, height_ = 0, left_ = 0, top_ = 0, bottom_ = 0, legend_height_ = 0;
  bool named_ = false;
  std::vector<std::string> title_;
  std::pair<double, double> x_, y_;
  Ticks x_ticks_, y_ticks_;
  std::vector<Entry> legend_;
};

std::string svg_text(const Figure& figure) {
  const auto columns = static_cast<std::size_t>(std::max(1, figure.columns));
  std::vector<Layout> layouts;
  layouts.reserve(figure.panels.size());
  for (const Panel& panel : figure.panels) layouts.emplace_back(panel, figure, static_cast<int>(layouts.size()));

  const std::size_t used = std::min(columns, std::max<std::size_t>(1, layouts.size()));
  const std::size_t rows = (layouts.size() + columns - 1) / columns;
  std::vector<double> left(used, 0), top(rows, 0), below(rows, 0);
  for (std::size_t i = 0; i < layouts.size(); ++i) {
    left[i % columns] = std::max(left[i % columns], layouts[i].left());
    top[i / columns] = std::max(top[i / columns], layouts[i].top());
    below[i / columns] = std::max(below[i / columns], layouts[i].below());
  }
  double width = 2 * page_margin + 8 + (static_cast<double>(used) - 1) * gap_between_panels;
  for (const double margin : left) width += margin + figure.panel_width;
  const std::vector<std::string> title = wrapped(figure.title, width - 2 * page_margin, figure_title_size);
  const double head = title.empty() ? 0 : static_cast<double>(title.size()) * (figure_title_size + 5) + 9;
  double height = 2 * page_margin + head + (rows > 0 ? (static_cast<double>(rows) - 1) * gap_between_panels : 0);
  for (std::size_t r = 0; r < rows; ++r) height += top[r] + below[r];
  width = std::ceil(width);
  height = std::ceil(height);

  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"batchlmm-figure\" role=\"img\" "
      "aria-labelledby=\"title desc\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} {1}\" "
      "font-family=\"system-ui, 'Segoe UI', 'Liberation Sans', 'DejaVu Sans', sans-serif\">\n",
      pixels(width), pixels(height));
  out += "<title id=\"title\">" + escaped(figure.title) + "</title>\n";
  out += "<desc id=\"desc\">" + escaped(figure.description) + "</desc>\n";
  out += style_sheet();
  out += fmt::format("<rect width=\"100%\" height=\"100%\" {}/>\n", paint("fill", surface_color));
  for (std::size_t i = 0; i < title.size(); ++i)
    out += text_element(page_margin, page_margin + figure_title_size + static_cast<double>(i) * (figure_title_size + 5),
                        title[i], figure_title_size, Anchor::start, ink, R"( font-weight="600")");
  double y = page_margin + head;
  for (std::size_t r = 0; r < rows; ++r) {
    double x = page_margin;
    for (std::size_t c = 0; c < columns && r * columns + c < layouts.size(); ++c) {
      x += left[c];
      out += layouts[r * columns + c].drawn(x, y + top[r]);
      x += figure.panel_width + gap_between_panels;
    }
    y += top[r] + below[r] + gap_between_panels;
  }
  return out + "</svg>\n";
}

void write_svg(const std::string& path, const Figure& figure) { write_text_file(path, svg_text(figure)); }

}  // namespace batchlmm::svg
