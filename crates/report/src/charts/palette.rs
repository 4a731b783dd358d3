//! Colours: told apart by colour-blind readers (Okabe and Ito), one for each variant in the plan's order.

use plotters::style::RGBColor;

/// One for each variant; the order is the plan's, so that a variant has one colour in all charts of a run.
const VARIANTS: [RGBColor; 12] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(174, 74, 140),
    RGBColor(86, 160, 211),
    RGBColor(200, 140, 0),
    RGBColor(110, 110, 110),
    RGBColor(90, 60, 30),
    RGBColor(136, 34, 85),
    RGBColor(60, 50, 150),
    RGBColor(140, 145, 40),
    RGBColor(220, 110, 125),
];

/// Parts of a whole, in their order (after Paul Tol's high-contrast scheme, and grey): none is a variant's colour.
const PARTS: [RGBColor; 4] = [
    RGBColor(221, 170, 51),
    RGBColor(187, 85, 102),
    RGBColor(0, 68, 136),
    RGBColor(160, 165, 172),
];

/// From light to dark (after ColorBrewer's yellow, green, blue), for how much there is of something.
const HEAT: [RGBColor; 5] = [
    RGBColor(247, 250, 240),
    RGBColor(199, 233, 200),
    RGBColor(110, 193, 192),
    RGBColor(38, 118, 172),
    RGBColor(12, 44, 104),
];

/// Titles.
pub(super) const INK: RGBColor = RGBColor(17, 24, 39);
/// Labels.
pub(super) const TEXT: RGBColor = RGBColor(75, 85, 99);
/// Remarks.
pub(super) const FAINT: RGBColor = RGBColor(107, 114, 128);
/// Axes.
pub(super) const AXIS: RGBColor = RGBColor(156, 163, 175);
/// Gridlines with a label.
pub(super) const GRID: RGBColor = RGBColor(226, 230, 236);
/// Gridlines without.
pub(super) const MINOR: RGBColor = RGBColor(243, 244, 247);
/// Phases outside the measured window.
pub(super) const SHADE: RGBColor = RGBColor(241, 243, 246);
/// While something is broken.
pub(super) const FAULT: RGBColor = RGBColor(253, 230, 224);
/// From when it is whole again until service is.
pub(super) const RESTORING: RGBColor = RGBColor(254, 243, 238);
/// Its name.
pub(super) const FAULT_NAME: RGBColor = RGBColor(170, 60, 30);
/// Numbers in doubt.
pub(super) const SUSPECT: RGBColor = RGBColor(180, 83, 9);
/// Numbers that are wrong.
pub(super) const INVALID: RGBColor = RGBColor(185, 28, 28);

/// The colour of a share of the darkest.
pub(super) fn heat(share: f64) -> RGBColor {
    let last = HEAT.len() - 1;
    let at = share.clamp(0.0, 1.0) * last as f64;
    // A share that is no number has the darkest.
    let from = if at.is_nan() {
        last
    } else {
        (at as usize).min(last)
    };
    let (RGBColor(r, g, b), RGBColor(to_r, to_g, to_b)) = (HEAT[from], HEAT[(from + 1).min(last)]);
    let rest = if from == last { 0.0 } else { at - from as f64 };
    let mix = |a: u8, b: u8| (f64::from(a) + (f64::from(b) - f64::from(a)) * rest).round() as u8;
    RGBColor(mix(r, to_r), mix(g, to_g), mix(b, to_b))
}

/// The colour of the variant in column `index`.
pub(super) fn variant(index: usize) -> RGBColor {
    VARIANTS[index % VARIANTS.len()]
}

/// The colour of part `index` of a whole.
pub(super) fn part(index: usize) -> RGBColor {
    PARTS[index % PARTS.len()]
}

/// The colour of text on that part.
pub(super) fn on_part(index: usize) -> RGBColor {
    match index % PARTS.len() {
        1 | 2 => RGBColor(255, 255, 255),
        _ => INK,
    }
}

/// The same as `#rrggbb`, for the page.
pub(crate) fn variant_hex(index: usize) -> String {
    let RGBColor(r, g, b) = variant(index);
    format!("#{r:02x}{g:02x}{b:02x}")
}
