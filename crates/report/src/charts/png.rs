//! Charts as PNG, with a typeface of their own: the same picture on a machine without fonts.

use std::sync::Arc;

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree, fontdb::Database};

use crate::files::ReportError;

/// So many times larger than the SVG, for dense displays.
const ZOOM: f32 = 2.0;
const REGULAR: &[u8] = include_bytes!("../../assets/Inter-Regular.subset.ttf");
const SEMI_BOLD: &[u8] = include_bytes!("../../assets/Inter-SemiBold.subset.ttf");

/// Turns SVG into PNG. Fonts of the machine are never looked at.
pub struct Rasterizer {
    options: Options<'static>,
}

impl Default for Rasterizer {
    fn default() -> Self {
        Self::new()
    }
}

impl Rasterizer {
    /// Loads the embedded typeface.
    pub fn new() -> Self {
        let mut fonts = Database::new();
        fonts.load_font_data(REGULAR.to_vec());
        fonts.load_font_data(SEMI_BOLD.to_vec());
        fonts.set_sans_serif_family("Inter");
        let options = Options {
            font_family: "Inter".to_owned(),
            fontdb: Arc::new(fonts),
            ..Options::default()
        };
        Self { options }
    }

    /// The PNG of `svg`, at twice its size.
    ///
    /// # Errors
    /// When the text is not an SVG.
    pub fn png(&self, svg: &str) -> Result<Vec<u8>, ReportError> {
        let failed = |what: String| ReportError::Png(what);
        let tree = Tree::from_str(svg, &self.options).map_err(|e| failed(e.to_string()))?;
        let size = tree
            .size()
            .to_int_size()
            .scale_by(ZOOM)
            .ok_or_else(|| failed("it has no size".to_owned()))?;
        let mut pixels =
            Pixmap::new(size.width(), size.height()).ok_or_else(|| failed("it is too large".to_owned()))?;
        resvg::render(&tree, Transform::from_scale(ZOOM, ZOOM), &mut pixels.as_mut());
        pixels.encode_png().map_err(|e| failed(e.to_string()))
    }
}
