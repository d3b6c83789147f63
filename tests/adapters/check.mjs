// Reads reports as the OHIF viewer does: DICOM JSON (what DICOMweb's metadata are), dcmjs, cornerstone's adapters.
// stdin {"images": [dataset...], "reports": {name: dataset}}; stdout {name: {"measurements": [...], "problems": [...]}}.
// Points are LPS millimetres. Bundled once by .ci/adapters: cornerstone's modules do not resolve in plain node.
import fs from 'node:fs';
import dcmjs from 'dcmjs';
import { adaptersSR } from '@cornerstonejs/adapters';
import { metaData } from '@cornerstonejs/core';

const FIRST_FRAME = 1;

const natural = dataset => dcmjs.data.DicomMetaDictionary.naturalizeDataset(dataset);

function planeModule(image) {
  const direction = image.ImageOrientationPatient.map(Number);
  return {
    rowCosines: direction.slice(0, 3),
    columnCosines: direction.slice(3),
    imageOrientationPatient: direction,
    imagePositionPatient: image.ImagePositionPatient.map(Number),
    rowPixelSpacing: Number(image.PixelSpacing[0]),
    columnPixelSpacing: Number(image.PixelSpacing[1]),
    rows: image.Rows,
    columns: image.Columns,
    frameOfReferenceUID: image.FrameOfReferenceUID,
  };
}

function provide(images) {
  const answers = {
    imagePlaneModule: planeModule,
    imagePixelModule: image => ({ rows: image.Rows, columns: image.Columns }),
    instance: image => image,
  };
  metaData.addProvider((type, imageId) => {
    const image = images.get(imageId);
    return image && answers[type] ? answers[type](image) : undefined;
  }, 10000);
}

function described(tool, found) {
  const data = found.annotation.data;
  const points = data.contour?.polyline ?? data.handles?.points ?? [];
  return {
    tool,
    label: data.label ?? null,
    tracking_uid: found.TrackingUniqueIdentifier ?? null,
    sop_instance_uid: found.sopInstanceUid ?? null,
    points_mm: points.filter(Boolean).map(point => Array.from(point)),
    stated: Object.values(data.cachedStats ?? {})[0] ?? null,
  };
}

function opened(report, imageIds) {
  const problems = [];
  console.warn = (...words) => problems.push(words.map(word => word?.message ?? String(word)).join(' '));
  try {
    const state = adaptersSR.Cornerstone3D.MeasurementReport.generateToolState(natural(report), imageIds, metaData);
    const measurements = Object.entries(state).flatMap(([tool, all]) => all.map(found => described(tool, found)));
    return { measurements, problems };
  } catch (error) {
    return { measurements: [], problems: [...problems, error.message] };
  }
}

const asked = JSON.parse(fs.readFileSync(0, 'utf8'));
const images = new Map(asked.images.map((dataset, number) => [`image:${number}`, natural(dataset)]));
const imageIds = Object.fromEntries([...images].map(([id, image]) => [`${image.SOPInstanceUID}:${FIRST_FRAME}`, id]));
provide(images);
console.log = () => {}; // the adapters print every measurement
const found = Object.entries(asked.reports).map(([name, report]) => [name, opened(report, imageIds)]);
process.stdout.write(JSON.stringify(Object.fromEntries(found)));
