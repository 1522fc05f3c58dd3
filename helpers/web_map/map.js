"use strict";
/* World maps of guesses, for pages that ask no other machine for anything: land from Natural Earth, drawn by Leaflet. */

(() => {
  const { land, colours } = window.geolocationMapData;
  const CELLS_FROM_ZOOM = 2; // above the first view: nearer than this, cells have outlines
  const RADIUS_KM = 6371;

  /* Equal Earth (Šavrič, Patterson, Jenny, International Journal of Geographical Information Science, 2018): areas of
     probability are as large as they are, which Mercator's are not. On a sphere of radius 1. */
  const [A1, A2, A3, A4] = [1.340264, -0.081106, 0.000893, 0.003796];
  const ROOT = Math.sqrt(3) / 2;
  const slope = (t) => A1 + 3 * A2 * t ** 2 + t ** 6 * (7 * A3 + 9 * A4 * t ** 2);
  const height = (t) => t * (A1 + A2 * t ** 2 + t ** 6 * (A3 + A4 * t ** 2));
  const clamp = (value, limit) => Math.max(-limit, Math.min(limit, value));
  const equalEarth = {
    bounds: L.bounds([-2.7066, -1.3174], [2.7066, 1.3174]),
    project({ lat, lng }) {
      const t = Math.asin(ROOT * Math.sin((clamp(lat, 90) * Math.PI) / 180));
      return L.point((((lng * Math.PI) / 180) * Math.cos(t)) / (ROOT * slope(t)), height(t));
    },
    unproject({ x, y }) {
      let t = clamp(y, 1.3173627591574) / A1;
      for (let step = 0; step < 12; step += 1) t -= (height(t) - clamp(y, 1.3173627591574)) / slope(t);
      const lat = (Math.asin(clamp(Math.sin(t) / ROOT, 1)) * 180) / Math.PI;
      return L.latLng(lat, (((x * ROOT * slope(t)) / Math.cos(t)) * 180) / Math.PI);
    },
  };
  const crs = L.extend({}, L.CRS.Simple, {
    code: "EPSG:8857",
    projection: equalEarth,
    transformation: L.transformation(1, 0, -1, 0),
    scale: (zoom) => 2 ** zoom,
    zoom: (scale) => Math.log2(scale),
    distance: (one, other) => L.CRS.Earth.distance(one, other),
  });

  const text = (words) => {
    const element = document.createElement("span");
    element.textContent = words; // names come from files and from players: never as HTML
    return element;
  };
  const told = (layer, words) => (words ? layer.bindTooltip(text(words), { sticky: true }) : layer);
  const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;

  /* A map in an element, which has to have a size. It gives
       show(layers, fit)  draw layers, and where `fit` is true, go to where they are;
       scatter(dots)      draw dots that stay, in the place of those before: each with a place, a `colour`, a `label`
                          and `open()`, which a click calls;
       ask(answer)        call `answer(latitude, longitude)` when a place is chosen, by a click, or by Enter, which
                          chooses the middle; ask(null) ends it. */
  window.geolocationMap = (element, label) => {
    element.classList.add("geolocation-map");
    const map = L.map(element, {
      crs,
      attributionControl: false,
      zoomControl: false,
      zoomSnap: 0.25,
      zoomDelta: 1,
      wheelPxPerZoomLevel: 90,
      maxZoom: 18,
      minZoom: 4,
      fadeAnimation: !still,
      zoomAnimation: !still,
      markerZoomAnimation: !still,
      maxBounds: [[-90, -180], [90, 180]],
      maxBoundsViscosity: 0.8,
    });
    L.control.zoom({ position: "topright" }).addTo(map);
    L.control.scale({ imperial: false, maxWidth: 140 }).addTo(map);
    element.setAttribute("role", "application");
    element.setAttribute("aria-label", `${label}. Arrow keys move the map, plus and minus zoom.`);
    const edge = [];
    for (let degree = -90; degree <= 90; degree += 2) edge.push([degree, 180]);
    for (let degree = 90; degree >= -90; degree -= 2) edge.push([degree, -180]);
    const canvas = L.canvas({ padding: 0.5 });
    const quiet = { renderer: canvas, interactive: false };
    L.polygon(edge, { ...quiet, stroke: true, color: colours.border, weight: 1, fillColor: colours.sea, fillOpacity: 1 }).addTo(map);
    L.polygon(land, { ...quiet, color: colours.border, weight: 0.6, fillColor: colours.land, fillOpacity: 1 }).addTo(map);

    const start = () => {
      map.invalidateSize({ animate: false });
      const { x, y } = map.getSize();
      const world = Math.log2(Math.min(x / 5.45, y / 2.67));
      map.setMinZoom(Math.floor(4 * world) / 4 - 0.25);
      return world;
    };
    let world = start();
    map.setView([0, 0], world, { animate: false });

    const drawn = L.layerGroup().addTo(map);
    const outlined = [];
    const outline = () => {
      const near = map.getZoom() >= world + CELLS_FROM_ZOOM;
      for (const cell of outlined) cell.setStyle({ stroke: near });
    };
    map.on("zoomend", outline);

    let shown = null;
    const bounds = (layers) => {
      const found = L.latLngBounds([]);
      for (const area of layers.areas || []) if (area.fit) area.rings.forEach((part) => part.forEach((ring) => found.extend(L.latLngBounds(ring))));
      for (const place of layers.places || []) if (place.fit) found.extend([place.latitude, place.longitude]);
      return found;
    };
    /* Buttons and keys zoom to what is shown, not to the middle of the world. */
    const zoomBy = (delta) => {
      const place = ((shown && shown.places) || []).find((each) => each.fit);
      const middle = place ? L.latLng(place.latitude, place.longitude) : map.getCenter();
      map.setZoomAround(map.getBounds().contains(middle) ? middle : map.getCenter(), map.getZoom() + delta);
      return map;
    };
    map.zoomIn = (delta) => zoomBy(delta || map.options.zoomDelta);

    const fit = () => {
      const where = shown ? bounds(shown) : L.latLngBounds([]);
      world = start();
      const near = where.isValid() ? map.getBoundsZoom(where, false, L.point(56, 56)) : world;
      if (near > world + 0.3) map.fitBounds(where, { padding: [28, 28], maxZoom: world + 6, animate: false });
      else map.setView([0, 0], world, { animate: false });
      outline();
    };
    let width = element.clientWidth; // a map that was out of sight, or turns with a phone, is laid out anew
    new ResizeObserver(() => {
      const before = width;
      width = element.clientWidth;
      if (!width) return;
      if (!before || Math.abs(width - before) > 40) fit();
      else map.invalidateSize({ animate: false });
    }).observe(element);

    const show = (layers, go = true) => {
      shown = layers;
      drawn.clearLayers();
      outlined.length = 0;
      const most = Math.max(...(layers.cells || []).map((cell) => cell.probability), 1e-9);
      for (const cell of layers.cells || []) {
        const fillOpacity = 0.08 + 0.72 * Math.sqrt(cell.probability / most);
        const look = { color: colours.guess, weight: 0.8, opacity: 0.8, fillColor: colours.guess, fillOpacity, stroke: false };
        const shape = cell.rings
          ? L.polygon(cell.rings, look)
          : L.circleMarker([cell.latitude, cell.longitude], { ...look, radius: 3 + 14 * Math.sqrt(cell.probability / most) });
        if (cell.rings) outlined.push(shape);
        told(shape, cell.label).addTo(drawn);
      }
      for (const area of layers.areas || []) {
        const color = colours[area.kind];
        told(L.polygon(area.rings, { color, weight: 2, fillColor: color, fillOpacity: 0.1, dashArray: area.dashed ? "6 4" : null, interactive: false }), "").addTo(drawn);
      }
      for (const line of layers.lines || []) L.polyline(line.points, { color: colours[line.kind], weight: 1.5, interactive: false }).addTo(drawn);
      for (const place of layers.places || []) {
        const icon = L.divIcon({
          className: `place ${place.kind}`,
          html: text(place.mark || ""),
          iconSize: place.small ? [12, 12] : [24, 24],
        });
        const marker = L.marker([place.latitude, place.longitude], { icon, alt: place.label, title: "", keyboard: Boolean(place.open), zIndexOffset: place.above || 0 });
        if (place.open) marker.on("click", place.open).on("keypress", (event) => (event.originalEvent.key === "Enter" ? place.open() : null));
        told(marker, place.label).addTo(drawn);
      }
      if (go) fit();
      else outline();
    };

    map.createPane("dots").style.zIndex = 410; // above areas and lines, below marks
    const scattered = L.featureGroup().addTo(map);
    scattered.bindTooltip(({ options }) => text(options.label), { sticky: true }).on("click", ({ layer }) => layer.options.open());
    const scatter = (dots) => {
      scattered.clearLayers();
      for (const { latitude, longitude, colour, label, open } of dots) {
        const look = { pane: "dots", radius: 6, color: "#1b1e21", weight: 1, fillColor: colour, fillOpacity: 1 };
        L.circleMarker([latitude, longitude], { ...look, label, open, bubblingMouseEvents: false }).addTo(scattered);
      }
    };

    let answer = null;
    const choose = ({ lat, lng }) => {
      if (answer && Math.abs(lng) <= 180 && Math.abs(lat) <= 90) answer(lat, lng);
    };
    map.on("click", ({ latlng }) => choose(latlng));
    element.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && event.target === element) choose(map.getCenter());
    });
    const ask = (callback) => {
      answer = callback;
      element.classList.toggle("asking", Boolean(callback));
    };
    return { show, scatter, ask, fit, map };
  };
})();
